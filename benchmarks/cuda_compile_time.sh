#!/usr/bin/env bash
# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
# What a program's .cu file costs to compile, with and without mad::cuda_compiled; writes
# benchmarks/results/cuda_compile_time.md. Needs nvcc and no GPU.
#
#   benchmarks/cuda_compile_time.sh
#
# NVCC and NVCCFLAGS choose what compiles, BUILD the folder for objects. Budget: the program's file, a stack of 4 layers
# for mad::cuda_compiled, at most 40 s. Exit status 1 where it is missed.
set -euo pipefail
cd "$(dirname "$0")/.."

NVCC=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
NVCCFLAGS=${NVCCFLAGS:--std=c++20 -O3 --generate-code=arch=compute_90a,code=sm_90a}
BUILD=${BUILD:-build/cuda_compile_time}
output=benchmarks/results/cuda_compile_time.md
mkdir -p "$BUILD" "$(dirname "$output")"
# As cmake/mad_compiled.cmake makes it.
printf '#define MAD_COMPILED_LIBRARY\n#include <mad/cuda/registration.cuh>\n' > "$BUILD/library.cu"

# seconds SOURCE [FLAG...]: the time that passes while nvcc compiles it.
seconds() {
  local TIMEFORMAT=%R source=$1
  shift
  # shellcheck disable=SC2086  # flags are a list of words
  { time "$NVCC" $NVCCFLAGS "$@" -I include -c "$source" -o "$BUILD/object.o" > "$BUILD/log" 2>&1; } 2>&1 ||
    { cat "$BUILD/log" >&2; exit 1; }
}

alone=$(seconds tests/cuda/user/device.cu)
linked=$(seconds tests/cuda/user/device.cu -DMAD_CUDA_COMPILED)
library=$(seconds "$BUILD/library.cu" -DMAD_CUDA_COMPILED)

commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ] || commit="$commit, with changes"
{
  echo '# Time to compile for the GPU'
  echo
  echo "* Machine: $(lscpu | sed -n 's/^Model name: *//p' | head -n 1), $(nproc) cores; load $(cut -d' ' -f1 /proc/loadavg)"
  echo "* Date: $(date -u +%Y-%m-%d)"
  echo "* Commit: $commit"
  echo "* nvcc: $("$NVCC" --version | sed -n 's/.*release //p')"
  echo "* Command: \`benchmarks/cuda_compile_time.sh\`, flags \`$NVCCFLAGS\`"
  echo
  echo 'Seconds that passed, one run each. The file is tests/cuda/user/device.cu: a stack of 4 layers, both precisions, both norms.'
  echo
  echo '| file | s |'
  echo '| --- | --- |'
  echo "| a program's, for \`mad::cuda\` | $alone |"
  echo "| the same for \`mad::cuda_compiled\` | $linked |"
  echo "| the library \`mad::cuda_compiled\` itself, once | $library |"
} > "$output.tmp"
mv "$output.tmp" "$output"
cat "$output"
awk -v s="$linked" 'BEGIN {exit !(s <= 40)}'
