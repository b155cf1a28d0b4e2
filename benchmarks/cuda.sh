#!/usr/bin/env bash
# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
# Builds, checks and times the CUDA device on the machine it runs on; needs a GPU, and nvcc to build.
#
#   benchmarks/cuda.sh [build] [check] [sanitize] [time] [profile] [timeline]     no step named: build, check, time
#
# build     the tests of the device and the benchmark, by CMake
# check     the device against the CPU
# sanitize  the same under compute-sanitizer, memcheck and then racecheck, with few and short batches, test cases side by
#           side; whole reports lie in the folder sanitize of the build
# time      every primitive beside PyTorch on the same GPU; writes benchmarks/results/cuda_training_step.md. Compiling all of
#           PyTorch's models takes longest; MAD_TIME=--compiled leaves that out
# profile   time of every kernel of some stacks, by Nsight Compute, one after the other
# timeline  when the kernels of a training step of these stacks ran, beside each other, by CUPTI
#
# MAD_CUDA_BUILD  the folder of the build (default: build/cuda); a build of another machine may be brought along
# MAD_CUDA_ARCH   what to compile for (default: native)
# PYTHON          the Python that has PyTorch (default: python3)
# MAD_TIME        options of benchmarks/pytorch/compare_on_gpu.py
# MAD_TOOLS       tools to sanitize with (default: memcheck racecheck)
# MAD_CASES       pattern of the test cases to sanitize (default: all)
# MAD_STACKS      stacks to profile (default: mA-Sg-mA-Sg H-Sg-H-Sg Mb-Mb-Mb-Mb)
set -euo pipefail
cd "$(dirname "$0")/.."
build=${MAD_CUDA_BUILD:-build/cuda}
PYTHON=${PYTHON:-python3}
tests=$build/tests/cuda/mad_test_device
steps=$build/benchmarks/primitive_steps
[ $# -gt 0 ] || set -- build check time

build() {
  cmake -B "$build" -DCMAKE_BUILD_TYPE=Release -DMAD_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=${MAD_CUDA_ARCH:-native}" \
    -DMAD_TEST_FOLDERS=cuda
  cmake --build "$build" --target mad_test_device primitive_steps --parallel
}

time_steps() {
  local facts commit
  commit=${MAD_COMMIT:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
  facts=$(mktemp)
  {
    echo "* GPU: $(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -n 1 | sed 's/, /, driver /')"
    echo "* Date: $(date -u +%Y-%m-%d)"
    echo "* Commit: $commit"
    echo "* PyTorch: $("$PYTHON" -c 'import torch; print(torch.__version__)')"
    echo "* Command: \`benchmarks/cuda.sh time\`${MAD_TIME:+ with \`MAD_TIME=\"$MAD_TIME\"\`}"
  } > "$facts"
  mkdir -p "${MAD_RESULTS:-benchmarks/results}"
  # shellcheck disable=SC2086  # options are a list of words
  "$PYTHON" benchmarks/pytorch/compare_on_gpu.py --program "$steps" --python "$PYTHON" --facts "$facts" \
    --output "${MAD_RESULTS:-benchmarks/results}/cuda_training_step.md" ${MAD_TIME:-}
  rm -f "$facts"
}

profile() {
  for stack in ${MAD_STACKS:-mA-Sg-mA-Sg H-Sg-H-Sg Mb-Mb-Mb-Mb}; do
    timeout 120 ncu --clock-control none --cache-control none --metrics gpu__time_duration.sum --csv \
      --log-file "$build/profile.csv" --launch-skip 0 "$steps" "$stack" --device cuda --lengths "${MAD_LENGTH:-128}" \
      --tokens "${MAD_TOKENS:-16384}" --warm-up 0 --repeat 1 --steps 1 > /dev/null
    echo "-- $stack"
    python3 benchmarks/cuda/profile_table.py "$build/profile.csv"
  done
}

timeline() {
  local cuda
  cuda=$(dirname "$(dirname "$(command -v nvcc)")")
  g++ -std=c++20 -O2 -shared -fPIC -I "$cuda/include" benchmarks/cuda/timeline.cpp -o "$build/timeline.so" \
    -L "$cuda/lib64" -L "$cuda/lib" -lcupti "-Wl,-rpath,$cuda/lib64:$cuda/lib"
  for stack in ${MAD_STACKS:-mA-Sg-mA-Sg H-Sg-H-Sg Mb-Mb-Mb-Mb}; do
    MAD_TIMELINE=$build/timeline.tsv CUDA_INJECTION64_PATH=$(realpath "$build/timeline.so") timeout 120 "$steps" "$stack" \
      --device cuda --lengths "${MAD_LENGTH:-128}" --tokens "${MAD_TOKENS:-16384}" --repeat 2 > /dev/null
    echo "-- $stack"
    python3 benchmarks/cuda/timeline_table.py "$build/timeline.tsv"
  done
}

sanitize() {
  export tests tool=$1 reports=$build/sanitize/$1 MAD_TEST_FEW_SHAPES=1
  mkdir -p "$reports"
  run_case() {
    local report=$reports/${1//[^a-zA-Z0-9]/_}.txt
    # No filter of kernels: with any, the tool of CUDA 13.0 makes kernels of cuBLASLt fail that it does not look at.
    compute-sanitizer --tool "$tool" --error-exitcode 9 "$tests" "${1//,/\\,}" > "$report" 2>&1
    local status=$?
    echo "status $status | $(grep -oE '(RACECHECK|ERROR) SUMMARY.*' "$report") | $(grep 'assertions\?' "$report") | $1"
    [ $status -ne 0 ] || return 0
    if [ $status -eq 255 ] && grep -q 'All tests passed' "$report"; then return 0; fi  # a test case that uses no GPU
    # Races between instructions of one of cuBLASLt's kernels are not ours to mend.
    if [ $status -eq 9 ] && grep -q 'All tests passed' "$report" && grep -q 'Race reported' "$report" &&
      ! grep 'Race reported' "$report" | grep -qv 'access at nvjet_'; then
      echo "  all in kernels of cuBLASLt"
      return 0
    fi
    grep -A 3 -E 'Race reported|Invalid|unexpected exception' "$report" | head -n 20 | cut -c 1-400
    return 1
  }
  export -f run_case
  local names
  names=$("$tests" --list-test-names-only 2>&1 || true)  # Catch2 2: its status is the number of tests
  [[ $names != *Unrecognised* ]] || names=$("$tests" --list-tests --verbosity quiet)  # Catch2 3
  sed 's/^ *//; /^$/d' <<< "$names" | grep -E "${MAD_CASES:-}" | tr '\n' '\0' |
    xargs -0 -P 14 -I{} bash -c 'run_case "$1"' _ {}
}

for step in "$@"; do
  echo "== $step"
  SECONDS=0
  case $step in
    build) build ;;
    check) "$tests" ;;
    sanitize) for tool in ${MAD_TOOLS:-memcheck racecheck}; do sanitize "$tool"; done ;;
    time) time_steps ;;
    profile) profile ;;
    timeline) timeline ;;
    *) echo "cuda.sh: unknown step '$step'; known are build, check, sanitize, time, profile, timeline" >&2; exit 2 ;;
  esac
  echo "($SECONDS s)"
done
