#!/usr/bin/env bash
# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
# Our training step against PyTorch's on this machine; writes benchmarks/results/cpu_training_step.md.
#
#   benchmarks/speed.sh [options of benchmarks/pytorch/compare.py, such as --rounds 5 --tokens 4096 --widths 128]
#
# CXX and CXXFLAGS choose the compiler, PYTHON the Python that has PyTorch, BUILD the folder for the program.
set -euo pipefail
cd "$(dirname "$0")/.."

CXX=${CXX:-g++}
CXXFLAGS=${CXXFLAGS:--std=c++20 -O2 -march=native}
PYTHON=${PYTHON:-/usr/bin/python3}
BUILD=${BUILD:-build/speed}
output=benchmarks/results/cpu_training_step.md

if ! "$PYTHON" -c 'import torch' 2>/dev/null; then
  echo "speed.sh: $PYTHON has no PyTorch, which this comparison alone needs." >&2
  echo "On Debian or Ubuntu: apt-get install python3-torch libopenblas0-openmp" >&2
  echo "Elsewhere: point PYTHON to a Python that has it, for example PYTHON=/path/to/venv/bin/python." >&2
  exit 1
fi
# Debian's PyTorch calls whatever BLAS the system has; the reference BLAS would make it many times slower.
blas=$(update-alternatives --query "libblas.so.3-$(uname -m)-linux-gnu" 2>/dev/null | sed -n 's/^Value: //p' || true)
case "$blas" in
  */blas/libblas.so.3)
    echo "speed.sh: the system's BLAS is the slow reference implementation, which would be unfair to PyTorch." >&2
    echo "On Debian or Ubuntu: apt-get install libopenblas0-openmp" >&2
    exit 1 ;;
esac
# Where OpenBLAS is older than the processor, PyTorch gets the kernels that OpenBLAS should have chosen.
kernels=$("$PYTHON" benchmarks/pytorch/openblas_kernels.py)
[ -z "$kernels" ] || export OPENBLAS_CORETYPE="$kernels"

mkdir -p "$BUILD" "$(dirname "$output")"
program=$BUILD/training_step_benchmark
eigen=$(pkg-config --cflags-only-I eigen3 2>/dev/null | sed 's/-I/-isystem /g' || true)
# shellcheck disable=SC2086  # flags are lists of words
"$CXX" $CXXFLAGS ${eigen:--isystem /usr/include/eigen3} -I include benchmarks/training_step_benchmark.cpp \
  -o "$program" -lbenchmark -lpthread

commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ] || commit="$commit, with changes"
facts=$(mktemp)
trap 'rm -f "$facts"' EXIT
cat > "$facts" <<FACTS
* Machine: $(lscpu | sed -n 's/^Model name: *//p' | head -n 1), family $(lscpu | sed -n 's/^CPU family: *//p' | head -n 1), $(nproc) cores
* Date: $(date -u +%Y-%m-%d)
* Commit: $commit
* Compiler: $("$CXX" --version | head -n 1), \`$CXXFLAGS\`
* BLAS of the system: ${blas:-unknown}${kernels:+, OPENBLAS_CORETYPE=$kernels (quickest here)}
* Command: \`benchmarks/speed.sh${*:+ $*}\`
FACTS
"$PYTHON" benchmarks/pytorch/compare.py --program "$program" --python "$PYTHON" --facts "$facts" --output "$output" "$@"
