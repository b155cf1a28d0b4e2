#!/usr/bin/env bash
# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
# What programs that use the library cost to compile; writes benchmarks/results/compile_time.md.
#
#   benchmarks/compile_time.sh [ROUNDS]     least processor time of ROUNDS compilations (default 3)
#
# COMPILERS and CXXFLAGS choose what compiles, BUILD the folder for programs and objects. Budgets: the README's program,
# linked to mad::compiled, at most 8 s; 24 layers of 4 types at most 1 s more than the 4 types; all 26 primitives under
# 90 s. Exit status 1 where the first compiler misses one.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-3}
COMPILERS=${COMPILERS:-g++ clang++-16}
CXXFLAGS=${CXXFLAGS:--std=c++20 -O2}
BUILD=${BUILD:-build/compile_time}
output=benchmarks/results/compile_time.md
mkdir -p "$BUILD" "$(dirname "$output")"
eigen=$(pkg-config --cflags-only-I eigen3 2>/dev/null | sed 's/-I/-isystem /g' || true)
eigen=${eigen:--isystem /usr/include/eigen3}

# training_program NAME LAYERS: a model with its training step, without tasks, files and command line.
training_program() {
  cat > "$BUILD/$1.cpp" <<CPP
#include <mad/mad.hpp>

using Model = mad::LanguageModel<$2, 64>;

int main() {
  mad::cpu::Threads threads;
  mad::cpu::Model<float> model(mad::cpu::architecture<Model, float>(), {}, 1, threads);
  mad::train::Optimizer<float> optimizer({}, model.layout().infos);
  mad::cpu::BatchOutput<float> out;
  model.gradient({}, out);
  optimizer.step(model.parameters(), model.gradients(), 1e-3);
}
CPP
}

echo '#include <Eigen/Core>' > "$BUILD/eigen.cpp"
echo '#include <mad/cpu/model.hpp>' > "$BUILD/model_header.cpp"
echo '#include <mad/mad.hpp>' > "$BUILD/umbrella.cpp"
training_program one_type 'mad::SwiGLU'
training_program four_types 'mad::Stack<mad::Hyena, mad::Attn, mad::SwiGLU, mad::Mamba>'
training_program four_types_24_layers 'mad::Repeat<6, mad::Hyena, mad::Attn, mad::SwiGLU, mad::Mamba>'
primitives=$(sed -n 's/^struct \([A-Za-z0-9]*\) : .*/mad::\1/p' include/mad/layers/*.hpp | paste -sd,)
training_program all_primitives "mad::Stack<$primitives>"
cp examples/quickstart.cpp "$BUILD/quickstart.cpp"
cat > "$BUILD/own_program.cpp" <<'CPP'
#include <mad/cli/run.hpp>
#include <mad/mad.hpp>

using Net = mad::Stack<mad::Hyena, mad::Attn, mad::SwiGLU, mad::Mamba>;

int main(int argc, char** argv) { return mad::run<Net>(argc, argv); }
CPP
# As cmake/mad_compiled.cmake makes them.
printf '#define MAD_COMPILED_LIBRARY\n#include <mad/compiled.hpp>\n' > "$BUILD/library.cpp"
printf '#define MAD_COMPILED_COMMAND_LINE\n#include <mad/cli/main.hpp>\n' > "$BUILD/command_line.cpp"

# NAME+compiled is NAME as a program compiles it that is linked to mad::compiled.
names="eigen model_header umbrella one_type four_types four_types_24_layers all_primitives all_primitives+compiled
  quickstart quickstart+compiled own_program own_program+compiled library+compiled command_line+compiled"

declare -A what=(
  [eigen]='`Eigen/Core` alone'
  [model_header]='`mad/cpu/model.hpp` alone'
  [umbrella]='`mad/mad.hpp` alone'
  [one_type]='training step, 1 layer type'
  [four_types]='training step, 4 layer types'
  [four_types_24_layers]='training step, 24 layers of 4 types'
  [all_primitives]="training step, all $(tr ',' '\n' <<< "$primitives" | wc -l) primitives"
  [all_primitives+compiled]='the same with `mad::compiled`'
  [quickstart]="the README's program, examples/quickstart.cpp"
  [quickstart+compiled]='the same with `mad::compiled`'
  [own_program]='`mad::run` for 4 layer types'
  [own_program+compiled]='the same with `mad::compiled`'
  [library+compiled]='the library `mad::compiled` itself, once: kernels, training, tasks'
  [command_line+compiled]='the library `mad::compiled` itself, once: the command line'
)

# least_time COMPILER NAME: processor time (user and system) of the quickest of the rounds, in seconds.
least_time() {
  local least= TIMEFORMAT='%U %S' source=${2%+compiled} flags=$CXXFLAGS
  [ "$source" = "$2" ] || flags="$flags -DMAD_COMPILED"
  [ "$source" != command_line ] || flags="$flags -O1"  # as in cmake/mad_compiled.cmake
  for ((round = 0; round < rounds; ++round)); do
    local seconds
    # shellcheck disable=SC2086  # flags are lists of words
    seconds=$({ time $1 $flags $eigen -I include -c "$BUILD/$source.cpp" -o "$BUILD/$2.o" 2> "$BUILD/$2.log"; } 2>&1 |
      awk '{print $1 + $2}') || { cat "$BUILD/$2.log" >&2; exit 1; }
    least=$(awk -v a="${least:-$seconds}" -v b="$seconds" 'BEGIN {print a < b ? a : b}')
  done
  echo "$least"
}

declare -A taken
missed=
first_compiler=${COMPILERS%% *}
for compiler in $COMPILERS; do
  for name in $names; do
    taken[$compiler,$name]=$(least_time "$compiler" "$name")
    echo "$compiler $name ${taken[$compiler,$name]}" >&2
  done
done
over() { awk -v a="$1" -v b="$2" 'BEGIN {exit !(a > b)}'; }
depth=$(awk -v a="${taken[$first_compiler,four_types_24_layers]}" -v b="${taken[$first_compiler,four_types]}" \
  'BEGIN {printf "%.2f", a - b}')
! over "${taken[$first_compiler,quickstart+compiled]}" 8 || missed="$missed the README's program takes more than 8 s;"
! over "${taken[$first_compiler,all_primitives]}" 90 || missed="$missed all primitives take more than 90 s;"
! over "$depth" 1 || missed="$missed 24 layers take ${depth} s more than their 4 types, more than 1 s;"

commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ] || commit="$commit, with changes"
{
  echo '# Time to compile'
  echo
  echo "* Machine: $(lscpu | sed -n 's/^Model name: *//p' | head -n 1), $(nproc) cores; load $(cut -d' ' -f1 /proc/loadavg)"
  echo "* Date: $(date -u +%Y-%m-%d)"
  echo "* Commit: $commit"
  for compiler in $COMPILERS; do echo "* $compiler: $("$compiler" --version | head -n 1)"; done
  echo "* Command: \`benchmarks/compile_time.sh $rounds\`, flags \`$CXXFLAGS\`"
  echo
  echo "Processor time in seconds (user and system), the least of $rounds. One translation unit, no ccache, no linking."
  echo
  printf '| program |'; printf ' %s |' $COMPILERS; echo
  printf '| --- |'; for compiler in $COMPILERS; do printf ' --- |'; done; echo
  for name in $names; do
    printf '| %s |' "${what[$name]}"
    for compiler in $COMPILERS; do printf ' %.1f |' "${taken[$compiler,$name]}"; done
    echo
  done
  echo
  echo "Budgets ($first_compiler): the README's program with mad::compiled at most 8 s:"
  echo "${taken[$first_compiler,quickstart+compiled]} s. 24 layers of 4 types at most 1 s more than the 4 types: ${depth} s more."
  echo "All primitives under 90 s: ${taken[$first_compiler,all_primitives]} s. ${missed:+**Missed:**${missed%;}.}"
  [ -n "$missed" ] || echo "All are met."
} > "$output.tmp"
mv "$output.tmp" "$output"
cat "$output"
[ -z "$missed" ]
