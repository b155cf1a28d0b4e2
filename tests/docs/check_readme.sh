#!/bin/sh
# The first C++ block of README.md must be examples/quickstart.cpp from its first #include on, and short.
set -eu
cd "$1"
quoted=$(awk '/^```cpp$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' README.md)
example=$(awk '/^#include/ { inside = 1 } inside' examples/quickstart.cpp)
if [ "$quoted" != "$example" ]; then
  echo "README.md quotes another program than examples/quickstart.cpp; copy it from its first #include on" >&2
  exit 1
fi
lines=$(printf '%s\n' "$quoted" | wc -l)
if [ "$lines" -gt 30 ]; then
  echo "the program of the README has $lines lines, the limit is 30" >&2
  exit 1
fi
for link in $(grep -o '](\([a-z][^)]*\))' README.md | sed 's/](\(.*\))/\1/' | grep -v '^http'); do
  if [ ! -e "$link" ]; then
    echo "README.md links to $link, which does not exist" >&2
    exit 1
  fi
done
