// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Gives a program the CUDA device. A .cu file that is linked in compiles what the program's models need:
///
///     #include <mad/cuda.hpp>
///     #include "net.hpp"  // using Net = mad::Stack<...>;
///     const bool compiled = mad::cuda::add_stack<Net>();
///
/// and `mad::run<Net>` in a .cpp file, or any other program of the command line, takes `--device cuda`.
#pragma once

#include <mad/core/compiled.hpp>
#include <mad/cuda/architecture.cuh>
#include <mad/cuda/block_list.hpp>
#include <mad/cuda/compiled.cuh>
#include <mad/cuda/run.cuh>

#include <memory>
#include <string>
#include <type_traits>

namespace mad::cuda {

/// The CUDA device as one of the kinds that a program can be compiled for. A template, so that only the file that uses
/// it compiles models.
template <class Fp32, class Bf16>
class CudaAccelerator final : public train::Accelerator {
public:
  void check(const train::ModelRequest& request, train::Precision precision) const override {
    if (precision == train::Precision::fp32)
      BlockList<Fp32>::of_program().architecture(request);
    else
      BlockList<Bf16>::of_program().architecture(request);
  }

  train::DeviceFacts open(int index) const override {
    Device::open(index);
    cudaDeviceProp properties{};
    cuda::check(cudaGetDeviceProperties(&properties, index), "read the properties of device " + std::to_string(index));
    cudaFuncAttributes attributes{};
    const auto* kernel = reinterpret_cast<const void*>(&optimizer_detail::round_all<typename Bf16::Activation>);
    if (cudaFuncGetAttributes(&attributes, kernel) != cudaSuccess) {
      cudaGetLastError();
      throw UsageError("device cuda:" + std::to_string(index) + " (" + properties.name + ") has compute capability " +
                       std::to_string(properties.major) + "." + std::to_string(properties.minor) +
                       ", for which this program was not built; add it to CMAKE_CUDA_ARCHITECTURES (80 is the least), "
                       "or use the device cpu");
    }
    int driver = 0;
    int runtime = 0;
    cuda::check(cudaDriverGetVersion(&driver), "ask for the driver's version");
    cuda::check(cudaRuntimeGetVersion(&runtime), "ask for the runtime's version");
    return {.device = "cuda:" + std::to_string(index),
            .name = properties.name,
            .driver = version_text(driver),
            .runtime = version_text(runtime)};
  }

  Index bytes_in_use(int index) const override {
    Device::open(index);
    std::size_t free = 0;
    std::size_t total = 0;
    cuda::check(cudaMemGetInfo(&free, &total), "ask for the free memory");
    return static_cast<Index>(total - free);
  }

  std::unique_ptr<train::DeviceModel> make(const train::ModelRequest& request, train::Precision precision,
                                           int index) const override {
    if (precision == train::Precision::fp32) return make_as<Fp32>(request, index);
    return make_as<Bf16>(request, index);
  }

private:
  template <class P>
  static std::unique_ptr<train::DeviceModel> make_as(const train::ModelRequest& request, int index) {
    return std::make_unique<DeviceModelOf<P>>(BlockList<P>::of_program().architecture(request), request, index);
  }
  static std::string version_text(int number) {
    return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
  }
};

namespace registration_detail {

/// The other form of a layer that has two.
template <class P, int Width, Norm N, class L>
void add_intended() {
  using Intended = typename IntendedOf<L>::type;
  if constexpr (!std::is_same_v<Intended, L>)
    BlockList<P>::of_program().add(&block<DeviceLowered<Residual<N, Intended>, Width, P>, P>);
}

template <class P, int Width, Norm N, class... L>
void add_blocks() {
  (BlockList<P>::of_program().add(&block<DeviceLowered<Residual<N, L>, Width, P>, P>), ...);
  (add_intended<P, Width, N, L>(), ...);
}

template <class P, int Width, Norm N>
void add_backbone() {
  BlockList<P>::of_program().add(&block<DeviceLowered<HeadNorm<N>, Width, P>, P>);
  BlockList<P>::of_program().add(&block<DeviceLowered<Decoder<N>, Width, P>, P>);
}

}  // namespace registration_detail

/// Compiles layers at a width and precision, with both norms.
template <class P, int Width, Layer... L>
bool add_layers() {
  registration_detail::add_blocks<P, Width, Norm::layer_norm, L...>();
  registration_detail::add_blocks<P, Width, Norm::rms_norm, L...>();
  return true;
}

/// Compiles what models of a width need besides their layers, at both precisions, and the device itself. Every program
/// needs it once.
template <int Width>
bool add_backbones() {
  using namespace registration_detail;
  add_backbone<Exact, Width, Norm::layer_norm>();
  add_backbone<Exact, Width, Norm::rms_norm>();
  add_backbone<Mixed, Width, Norm::layer_norm>();
  add_backbone<Mixed, Width, Norm::rms_norm>();
  static const CudaAccelerator<Exact, Mixed> accelerator{};
  return train::install(accelerator);
}

#if defined(MAD_CUDA_COMPILED)
// In the library mad::cuda_compiled, for the widths that people train at; see <mad/compiled.hpp>.
MAD_SHARED_FUNCTION(add_backbones<64>);
MAD_SHARED_FUNCTION(add_backbones<128>);
#endif

namespace registration_detail {

template <int Width, class... L>
bool add_list(LayerList<L...>) {
  return add_layers<Exact, Width, L...>() && add_layers<Mixed, Width, L...>() && add_backbones<Width>();
}

}  // namespace registration_detail

/// Compiles everything that `mad::run<Net, Width>` needs.
template <class Net, int Width = 128>
bool add_stack() {
  static_assert(stack_detail::Check<Width, LayersOf<Net>>::value);
  return registration_detail::add_list<Width>(LayersOf<Net>{});
}

}  // namespace mad::cuda
