#!/bin/sh
# check.sh <case.cpp> <compiler> <options...> passes if the compiler refuses the case in the expected words.
#
# A case holds one or more comment lines
#   // expect: <extended regular expression>
# each of which must match a line of the compiler's messages, and may hold
#   // at most: <number> lines
# The same file must compile with -DMAD_MUST_COMPILE, which selects the right way to write it: a case that fails for
# another reason (a missing header, a renamed function) is then noticed.
set -eu
export LC_ALL=C
case_file=$1
compiler=$2
shift 2

# Source lines quoted in the messages would match the expectation by themselves.
if "$compiler" --version | grep -q clang; then
  quiet="-fno-caret-diagnostics -fno-color-diagnostics"
else
  quiet="-fno-diagnostics-show-caret -fdiagnostics-color=never"
fi
messages=$(mktemp)
trap 'rm -f "$messages"' EXIT

fail() {
  echo "$case_file: $1"
  echo "--- the compiler's messages:"
  cat "$messages"
  exit 1
}

# $quiet is a list of options.
# shellcheck disable=SC2086
if ! "$compiler" "$@" $quiet -fmessage-length=0 -fsyntax-only -DMAD_MUST_COMPILE "$case_file" >"$messages" 2>&1; then
  fail "must compile with -DMAD_MUST_COMPILE, but does not"
fi
# shellcheck disable=SC2086
if "$compiler" "$@" $quiet -fmessage-length=0 -fsyntax-only "$case_file" >"$messages" 2>&1; then
  fail "must not compile, but does"
fi

grep -q '^// expect: ..*' "$case_file" || fail "holds no line '// expect: <regular expression>'"
sed -n 's|^// expect: ||p' "$case_file" | while IFS= read -r expected; do
  grep -Eq -e "$expected" "$messages" || fail "is refused, but not in the expected words: $expected"
done

limit=$(sed -n 's|^// at most: \([0-9][0-9]*\) lines$|\1|p' "$case_file")
if [ -n "$limit" ] && [ "$(wc -l <"$messages")" -gt "$limit" ]; then
  fail "is refused in $(wc -l <"$messages") lines; at most $limit are allowed"
fi
