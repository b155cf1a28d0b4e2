#!/usr/bin/env bash
# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
# Training steps of every primitive, ours beside eager PyTorch's; writes benchmarks/results/cpu_primitives.md.
#
#   benchmarks/primitives.sh [options of benchmarks/pytorch/compare_primitives.py, such as --primitives retnet mamba2]
#
# Takes about a quarter of an hour. PYTHON is the Python that has PyTorch, BUILD the folder of a release build without
# the CUDA device, whose libraries would count as memory of ours.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-/usr/bin/python3}
BUILD=${BUILD:-build/cpu}
if ! "$PYTHON" -c 'import torch' 2>/dev/null; then
  echo "primitives.sh: $PYTHON has no PyTorch, which this comparison alone needs." >&2
  echo "On Debian or Ubuntu: apt-get install python3-torch libopenblas0-openmp" >&2
  exit 1
fi
# Where OpenBLAS is older than the processor, PyTorch gets the kernels that OpenBLAS should have chosen.
kernels=$("$PYTHON" benchmarks/pytorch/openblas_kernels.py)
[ -z "$kernels" ] || export OPENBLAS_CORETYPE="$kernels"
[ -f "$BUILD/CMakeCache.txt" ] || cmake -B "$BUILD" --preset release -DMAD_CUDA=OFF
cmake --build "$BUILD" --target primitive_steps

commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ] || commit="$commit, with changes"
facts=$(mktemp)
trap 'rm -f "$facts"' EXIT
cat > "$facts" <<FACTS
* Machine: $(lscpu | sed -n 's/^Model name: *//p' | head -n 1), family $(lscpu | sed -n 's/^CPU family: *//p' | head -n 1), $(nproc) cores
* Date: $(date -u +%Y-%m-%d)
* Commit: $commit
* Compiler: $(sed -n 's/^CMAKE_CXX_COMPILER:[A-Z]*=//p' "$BUILD/CMakeCache.txt") of the release preset
* PyTorch: $("$PYTHON" -c 'import torch; print(torch.__version__)')${kernels:+, OPENBLAS_CORETYPE=$kernels (quickest here)}
* Command: \`benchmarks/primitives.sh${*:+ $*}\`
FACTS
"$PYTHON" benchmarks/pytorch/compare_primitives.py --program "$BUILD/benchmarks/primitive_steps" --python "$PYTHON" \
  --facts "$facts" --output benchmarks/results/cpu_primitives.md "$@"
