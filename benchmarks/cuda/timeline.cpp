// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A library that the CUDA driver loads into a program (CUDA_INJECTION64_PATH) and that writes down when each kernel
/// ran, also those of graphs and beside each other: a line per kernel to the file that MAD_TIMELINE names, fields by
/// tabs. `benchmarks/cuda.sh timeline` builds and uses it; timeline_table.py reads the file.

#include <cupti.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

std::FILE* out = nullptr;

void check(CUptiResult result, const char* what) {
  if (result == CUPTI_SUCCESS) return;
  const char* why = "unknown error";
  cuptiGetResultString(result, &why);
  std::fprintf(stderr, "timeline: failed to %s: %s\n", what, why);
}

void CUPTIAPI request_buffer(std::uint8_t** buffer, std::size_t* size, std::size_t* most_records) {
  *size = std::size_t{8} << 20;
  *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(8, *size));
  *most_records = 0;
}

void CUPTIAPI write_buffer(CUcontext, std::uint32_t, std::uint8_t* buffer, std::size_t, std::size_t valid) {
  CUpti_Activity* record = nullptr;
  while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
    if (record->kind != CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) continue;
    const auto* k = reinterpret_cast<const CUpti_ActivityKernel10*>(record);
    std::fprintf(out, "%u\t%llu\t%llu\t%d,%d,%d\t%d\t%d\t%d\t%s\n", k->streamId,
                 static_cast<unsigned long long>(k->start), static_cast<unsigned long long>(k->end), k->gridX, k->gridY,
                 k->gridZ, k->blockX * k->blockY * k->blockZ, k->registersPerThread,
                 k->staticSharedMemory + k->dynamicSharedMemory, k->name);
  }
  std::free(buffer);
}

void finish() {
  check(cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED), "fetch the last kernels");
  std::fclose(out);
}

}  // namespace

extern "C" int InitializeInjection() {
  const char* path = std::getenv("MAD_TIMELINE");
  out = path != nullptr ? std::fopen(path, "w") : nullptr;
  if (out == nullptr) {
    std::fprintf(stderr, "timeline: set MAD_TIMELINE to a file that can be written\n");
    return 0;
  }
  check(cuptiActivityRegisterCallbacks(request_buffer, write_buffer), "be told of kernels");
  check(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL), "be told of kernels");
  std::atexit(finish);
  return 1;
}
