# Read by the other scripts with ". scripts/setup.sh", from the root of the checkout: finds or installs what mad needs.
# Prints nothing when nothing is missing. Exit status 2: something is missing that cannot be installed from here.
# shellcheck shell=sh

# Nothing here or later may wait for an answer.
exec </dev/null

# mad_missing <package...> prints those of the Debian packages that are not there. A tool counts as there if its
# command is found, wherever it came from; a library if its package is installed.
mad_missing() {
  for package in "$@"; do
    case $package in
      cmake | git | g++ | clang-format | clang-tidy | clang-tidy-[0-9]*) command=$package ;;
      ninja-build) command=ninja ;;
      clang-[0-9]*) command=clang++-${package#clang-} ;;
      *) command= ;;
    esac
    if [ -n "$command" ]; then
      command -v "$command" >/dev/null 2>&1 || echo "$package"
    else
      status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
      [ "$status" = installed ] || echo "$package"
    fi
  done
}

mad_on_debian() {
  command -v apt-get >/dev/null 2>&1 && command -v dpkg-query >/dev/null 2>&1
}

# mad_as_root <command...>. sudo asks for a password on the terminal, if there is one, and not on standard input.
mad_as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1 && { sudo -n true || true >/dev/tty; } 2>/dev/null; then
    sudo "$@"
  else
    echo "mad: root is needed for: $*" >&2
    return 1
  fi
}

# mad_apt <arguments of apt-get...>, without questions; what it prints is shown only if it fails.
mad_apt() {
  log=$(mktemp)
  if mad_as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1; then
    rm -f "$log"
  else
    cat "$log" >&2
    rm -f "$log"
    return 1
  fi
}

# mad_require <package...> installs what is missing.
mad_require() {
  if ! mad_on_debian; then
    mad_require_elsewhere "$@"
    return
  fi
  missing=$(mad_missing "$@" | tr '\n' ' ')
  [ -n "$missing" ] || return 0
  echo "mad: installing $missing" >&2
  # $missing is a list of packages.
  # shellcheck disable=SC2086
  if ! { mad_apt update && mad_apt install --no-install-recommends $missing; }; then
    echo "mad: these packages could not be installed; install them and run this again: $missing" >&2
    exit 2
  fi
}

# Without apt: tools by their commands, libraries by what CMake can find.
mad_require_elsewhere() {
  missing=
  for package in "$@"; do
    case $package in
      libeigen3-dev) module=Eigen3 ;;
      nlohmann-json3-dev) module=nlohmann_json ;;
      libcli11-dev) module=CLI11 ;;
      catch2) module=Catch2 ;;
      libbenchmark-dev) module=benchmark ;;
      *) module= ;;
    esac
    if [ -z "$module" ]; then
      [ -z "$(mad_missing "$package")" ] || missing="$missing $package"
    elif ! mad_cmake_finds "$module"; then
      missing="$missing $package"
    fi
  done
  if [ -n "$missing" ]; then
    echo "mad: these are missing (by their Debian names), and there is no apt-get to install them:$missing" >&2
    echo "mad: install them the way your system does it, then run this again" >&2
    exit 2
  fi
}

# mad_cmake_finds <module>: whether find_package would succeed.
mad_cmake_finds() {
  command -v cmake >/dev/null 2>&1 || return 1
  folder=$(mktemp -d) || return 1
  cat >"$folder/CMakeLists.txt" <<EOF
cmake_minimum_required(VERSION 3.25)
project(find LANGUAGES CXX)
find_package($1 CONFIG REQUIRED)
EOF
  found=0
  cmake -S "$folder" -B "$folder/build" >/dev/null 2>&1 || found=1
  rm -rf "$folder"
  return $found
}

# mad_at_least <what> <found version> <least version> stops if the version is too old.
mad_at_least() {
  if [ "$(printf '%s\n%s\n' "$2" "$3" | sort -V | head -n 1)" != "$3" ]; then
    echo "mad: $1 $2 was found, $3 or later is needed; install a newer one and put it first in PATH" >&2
    exit 2
  fi
}

# mad_clang prints the command of the oldest supported clang++ there is, and installs one if there is none.
mad_clang() {
  for number in 16 17 18 19 20 21; do
    if command -v clang++-$number >/dev/null 2>&1; then
      echo clang++-$number
      return
    fi
  done
  if mad_on_debian; then
    mad_apt update || true
    for number in 16 17 18 19 20 21; do
      if apt-cache policy clang-$number | grep -q 'Candidate: .*[0-9]'; then
        mad_require clang-$number
        echo clang++-$number
        return
      fi
    done
  fi
  echo "mad: no clang++-16 or later was found; install one and run this again" >&2
  exit 2
}

# mad_setup [<package...>] prepares everything that every build needs, and the packages named.
mad_setup() {
  mad_require cmake ninja-build g++ git libeigen3-dev nlohmann-json3-dev libcli11-dev catch2 libbenchmark-dev "$@"
  mad_at_least cmake "$(cmake --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p')" 3.25
  mad_at_least g++ "$(g++ -dumpfullversion)" 12

  # One job per core, but no more than memory allows: a file full of templates takes up to 2 GiB.
  if [ -z "${CMAKE_BUILD_PARALLEL_LEVEL:-}" ]; then
    cores=$(getconf _NPROCESSORS_ONLN)
    by_memory=$(awk '/MemAvailable/ {print int($2 / 2097152)}' /proc/meminfo 2>/dev/null || echo "$cores")
    [ "${by_memory:-0}" -ge 1 ] || by_memory=1
    CMAKE_BUILD_PARALLEL_LEVEL=$((by_memory < cores ? by_memory : cores))
    export CMAKE_BUILD_PARALLEL_LEVEL
  fi
  export CTEST_PARALLEL_LEVEL="${CTEST_PARALLEL_LEVEL:-$CMAKE_BUILD_PARALLEL_LEVEL}"
}
