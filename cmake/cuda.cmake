# The CUDA device: mad::cuda, for .cu files that include mad/cuda.hpp. Headers only, like the rest; what it adds are the
# CUDA runtime and cuBLASLt. Builds without it need nothing of CUDA.
set(MAD_CUDA AUTO CACHE STRING "Compile for the CUDA device: ON, OFF, or AUTO (in mad's own build, where nvcc is found)")
set_property(CACHE MAD_CUDA PROPERTY STRINGS AUTO ON OFF)

set(mad_has_cuda FALSE)
if(MAD_CUDA STREQUAL "AUTO" AND NOT PROJECT_IS_TOP_LEVEL)
  return()
elseif(NOT MAD_CUDA)
  return()
endif()

find_program(MAD_NVCC nvcc HINTS ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
if(NOT MAD_NVCC)
  if(NOT MAD_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "mad: MAD_CUDA is ${MAD_CUDA}, but nvcc was not found. Put it on the PATH or set MAD_NVCC.")
  endif()
  return()
endif()

if(NOT CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_COMPILER "${MAD_NVCC}")
endif()
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80 90a)
endif()
enable_language(CUDA)
# Products by four warps together are code for 90a, which `native` does not name.
if(CMAKE_CUDA_ARCHITECTURES STREQUAL "native" AND CMAKE_CUDA_ARCHITECTURES_NATIVE MATCHES "^90")
  set(CMAKE_CUDA_ARCHITECTURES 90a)
endif()
find_package(CUDAToolkit REQUIRED)
set(mad_has_cuda TRUE)

add_library(mad_cuda INTERFACE)
add_library(mad::cuda ALIAS mad_cuda)
# The option itself: older CMake does not know the feature cuda_std_20 of newer nvcc.
target_compile_options(mad_cuda INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>)
target_link_libraries(mad_cuda INTERFACE mad_library CUDA::cudart CUDA::cublasLt)
