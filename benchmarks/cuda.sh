#!/usr/bin/env bash
# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
# Builds, checks and times the CUDA device on the machine it runs on; needs a GPU, nvcc 12 or later and a host compiler.
#
#   benchmarks/cuda.sh [build] [check] [sanitize] [time] [profile] [pytorch]     no step named: build, check, time, pytorch
#
# MAD_CUDA_BUILD   folder for objects and programs (default: build/cuda)
# MAD_CUDA_ARCH    what to compile for (default: native)
# MAD_DEPENDENCIES folder with eigen3/ and catch2/ (default: /usr/include)
set -euo pipefail
cd "$(dirname "$0")/.."
build=${MAD_CUDA_BUILD:-build/cuda}
arch=${MAD_CUDA_ARCH:-native}
dependencies=${MAD_DEPENDENCIES:-/usr/include}
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
jobs=$(nproc)
[ $# -gt 0 ] || set -- build check time pytorch

device_flags=(-std=c++20 -O3 -arch="$arch" -lineinfo -I include -I tests -I tests/cuda/device -I benchmarks/cuda)
host_flags=(-std=c++20 -O2 -march=native -I include -I tests -I tests/cuda/device -isystem "$dependencies/eigen3"
            -isystem "$dependencies")
cxx=${CXX:-g++}

compile() {  # source object
  case $1 in
    *.cu) "$nvcc" "${device_flags[@]}" -c "$1" -o "$2" ;;
    *) "$cxx" "${host_flags[@]}" -c "$1" -o "$2" ;;
  esac || { echo "failed: $1"; return 1; }
}

build() {
  mkdir -p "$build"/{test,benchmark}
  export -f compile
  local sources=(benchmarks/cuda/*.cu benchmarks/cuda/*.cpp tests/cuda/device/*.cu tests/cuda/device/*.cpp tests/main.cpp)
  local pids=() failed=0
  for source in "${sources[@]}"; do
    local folder=test
    [[ $source == benchmarks/* ]] && folder=benchmark
    compile "$source" "$build/$folder/$(basename "$source" | tr . _).o" &
    pids+=($!)
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || failed=1; done
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  [ $failed = 0 ] || { echo "the build failed"; exit 1; }
  "$nvcc" -arch="$arch" "$build"/benchmark/*.o -o "$build/training_step" -lcublasLt
  local catch=()  # version 3 is a library, version 2 a header
  echo '#include <catch2/catch_all.hpp>' | "$cxx" "${host_flags[@]}" -xc++ -fsyntax-only - 2>/dev/null && catch=(-lCatch2)
  "$nvcc" -arch="$arch" "$build"/test/*.o -o "$build/device_test" -lcublasLt -lpthread "${catch[@]}"
}

for step in "$@"; do
  echo "== $step"
  SECONDS=0
  case $step in
    build) build ;;
    check) "$build/device_test" ;;
    sanitize)
      compute-sanitizer --tool memcheck "$build/device_test" "attention on the device agrees with the CPU"
      compute-sanitizer --tool racecheck "$build/device_test" "a mixture*" ;;
    time) "$build/training_step" | tee "$build/times.jsonl" ;;
    profile)
      for stack in mA-Sg-mA-Sg H-Sg-H-Sg Mb-Mb-Mb-Mb; do
        for length in 128 1024; do
          timeout 60 ncu --clock-control none --cache-control none --metrics gpu__time_duration.sum --csv --log-file "$build/profile.csv" \
            "$build/training_step" --once --stacks "$stack" --lengths "$length" --precisions bf16 > /dev/null
          echo "-- $stack $length"
          python3 benchmarks/cuda/profile_table.py "$build/profile.csv"
        done
      done ;;
    pytorch)
      python3 benchmarks/pytorch/primitives.py --device cuda --dtype bf16 --repeat 20 \
        --primitives mh-attention hyena mamba ;;
    *) echo "unknown step '$step'"; exit 2 ;;
  esac
  echo "($SECONDS s)"
done
