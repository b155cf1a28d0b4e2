#!/bin/sh
# From a fresh clone to scores: installs what is missing, builds the program mad, scores a hybrid on six small tasks.
#   scripts/quickstart.sh [options of "mad benchmark", for example --layers mlp swiglu mlp swiglu]
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
# The options are for the program, not for the set-up.
# shellcheck disable=SC2119
mad_setup

# For the GPU that is here, if there is one: compiling for others takes longer than all the rest.
if nvidia-smi -L >/dev/null 2>&1; then
  set_cuda=-DCMAKE_CUDA_ARCHITECTURES=native
else
  set_cuda=-DMAD_CUDA=OFF
fi
cmake --preset release "$set_cuda"
cmake --build --preset quickstart

started=$(mktemp)
trap 'rm -f "$started"' EXIT
case " $* " in
  *" --layers "*) ;;
  *) set -- --layers hyena mh-attention swiglu mamba "$@" ;;
esac
build/release/mad benchmark --preset quick "$@"
report=$(find . -path ./build -prune -o -name report.html -newer "$started" -print | tail -n 1)
if [ -n "$report" ]; then
  echo "The report: $PWD/${report#./}"
fi
