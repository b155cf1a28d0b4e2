#!/bin/sh
# Everything that must hold before a change is accepted. Installs what is missing.
#   scripts/test.sh           format, g++ build with all tests, sanitizers, clang
#   scripts/test.sh --quick   g++ build with all tests only
#   scripts/test.sh --tidy    everything, and clang-tidy over every header (slow)
# The last line is "N passed, N failed"; the exit status is 0 only if nothing failed, 2 for a wrong option or a missing
# package. A build that breaks counts as one failure, and the stages that do not need it go on.
set -eu
cd "$(dirname "$0")/.."

# Folders of tests/ for the two further builds. The release build runs all of them. Whole models stand for the layers
# under the sanitizers, whose builds are slow; clang's build is there for its front end, so its optimiser stays off.
sanitize_folders="core;models;ops;protocol;random;tasks;train"
clang_folders="core;layers;models;must_not_compile;ops;protocol;random;tasks;train"

quick=false
tidy=false
for option in "$@"; do
  case $option in
    --quick) quick=true ;;
    --tidy) tidy=true ;;
    *)
      echo "test.sh: unknown option $option; known are --quick and --tidy" >&2
      exit 2
      ;;
  esac
done

if $quick && $tidy; then
  echo "test.sh: --quick and --tidy exclude each other" >&2
  exit 2
fi

. scripts/setup.sh
if $quick; then
  mad_setup
else
  mad_setup clang-format
  clang=$(mad_clang)
  if $tidy; then
    mad_require "clang-tidy-${clang##*-}"
    clang_folders="$clang_folders;headers"
  fi
fi

passed=0
failed=0
failures=  # what failed, for the end: the output above is long

# stage <name> <command...> runs one step that passes or fails as a whole.
stage() {
  name=$1
  shift
  echo "== $name"
  begin=$(date +%s)
  if "$@"; then
    passed=$((passed + 1))
    echo "== $name: passed, $(($(date +%s) - begin)) s"
  else
    failed=$((failed + 1))
    failures="$failures
  $name"
    echo "== $name: FAILED, $(($(date +%s) - begin)) s"
    return 1
  fi
}

# run_tests <build folder> runs ctest and counts each of its tests.
run_tests() {
  echo "== tests of $1"
  report=$1/test_report.xml
  rm -f "$report"
  (cd "$1" && ctest --output-on-failure --no-tests=error --output-junit test_report.xml) || true
  tests=$(sed -n 's/^[[:space:]]*tests="\([0-9]*\)".*/\1/p' "$report" 2>/dev/null | head -n 1)
  bad=$(sed -n 's/^[[:space:]]*failures="\([0-9]*\)".*/\1/p' "$report" 2>/dev/null | head -n 1)
  if [ -z "$tests" ] || [ -z "$bad" ]; then
    echo "== tests of $1: ctest did not finish"
    failed=$((failed + 1))
    failures="$failures
  tests of $1, which ctest did not finish"
  else
    passed=$((passed + tests - bad))
    failed=$((failed + bad))
    names=$(sed -n "s|.*<testcase name=\"\([^\"]*\)\".* status=\"fail\".*|  $1: \1|p" "$report")
    [ -z "$names" ] || failures="$failures
$names"
  fi
}

# build <folder> <options of cmake...> configures and builds. What an earlier configuration left in the cache is not
# kept: a change of compiler would silently drop the other options.
build() {
  folder=$1
  shift
  cmake --fresh -B "$folder" "$@" -DMAD_WARNINGS_AS_ERRORS=ON && cmake --build "$folder"
}

# build_tests <folder> <preset> <compiler> <folders of tests/> <more options of cmake...> builds a part of the tests and
# nothing else.
build_tests() {
  folder=$1 preset=$2 compiler=$3 test_folders=$4
  shift 4
  build "$folder" --preset "$preset" "-DCMAKE_CXX_COMPILER=$compiler" "-DMAD_TEST_FOLDERS=$test_folders" \
    -DMAD_BUILD_PROGRAM=OFF -DMAD_BUILD_EXAMPLES=OFF -DMAD_BUILD_BENCHMARKS=OFF "$@"
}

check_format() {
  find include examples benchmarks tests -regex '.*\.\(hpp\|cpp\|cu\|cuh\)' -print0 |
    xargs -0 clang-format --dry-run --Werror
}

check_tidy() {
  find build/clang/tests/headers/alone -name '*.cpp' -print0 |
    xargs -0 -n 1 -P "$CMAKE_BUILD_PARALLEL_LEVEL" "$1" --quiet -p build/clang
}

if ! $quick; then
  # Versions of clang-format disagree about the same style, so only one of them is asked.
  if clang-format --version | grep -q 'version 14\.'; then
    stage "format" check_format || true
  else
    echo "== format: not checked, that takes clang-format 14; found: $(clang-format --version)"
  fi
fi
# One architecture of the GPU, where nvcc is: a second one compiles the same code for as long again. Where no GPU is,
# kernels are compiled but never run, so nvcc optimises as little as it can.
set -- -DCMAKE_CUDA_ARCHITECTURES="${MAD_CUDA_ARCH:-90a}"
if ! nvidia-smi -L >/dev/null 2>&1; then
  nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
  quickest=
  if "$nvcc" --help 2>/dev/null | grep -q Ofast-compile; then
    quickest=-Ofc=max
  fi
  set -- "$@" "-DCMAKE_CUDA_FLAGS_RELEASE=-O0 -DNDEBUG $quickest"
fi
if stage "build with g++" build build/release --preset release -DCMAKE_CXX_COMPILER=g++ "$@"; then
  run_tests build/release
fi
if ! $quick; then
  if stage "build with sanitizers" build_tests build/sanitize sanitize g++ "$sanitize_folders"; then
    run_tests build/sanitize
  fi
  if stage "build with $clang" build_tests build/clang release "$clang" "$clang_folders" \
    -DCMAKE_CXX_FLAGS_RELEASE=-O0 -DMAD_TEST_FLAGS=; then
    run_tests build/clang
  fi
fi
if $tidy; then
  stage "clang-tidy" check_tidy "clang-tidy-${clang##*-}" || true
fi

[ -z "$failures" ] || echo "== What failed:$failures"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
