#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs what storylm needs and this machine lacks, on Debian, Ubuntu and their relatives; elsewhere it says what is missing.
#
#   scripts/setup.sh                 what building, testing and the programs need
#   scripts/setup.sh --developer     also what scripts/check.sh needs
#   scripts/setup.sh --machines      also what tests of other machines need (qemu, a compiler for aarch64); these are skipped
#                                    where it cannot be had, and that is no failure
#
# Looks for the things themselves, not for packages: when all are there it needs neither the network nor root. It removes
# nothing (apt-get install --no-remove) and never touches anything that the package manager does not own.
# BOOST_ROOT=DIR names Boost headers unpacked by hand; CXX names the compiler.
set -euo pipefail

cmake_minimum=3.25 gnu_minimum=12 clang_minimum=14 boost_minimum=75
developer=no machines=no
for argument in "$@"; do
  case "$argument" in
    --developer) developer=yes ;;
    --machines) machines=yes ;;
    *) echo "usage: setup.sh [--developer] [--machines]" >&2; exit 2 ;;
  esac
done
read -ra compiler <<<"${CXX:-c++}"  # a list: CXX may be "ccache g++"

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }  # at_least MINIMUM VERSION

include_flags=(-I/usr/include/eigen3 -I/usr/local/include/eigen3)
[ -n "${BOOST_ROOT:-}" ] && include_flags+=("-I$BOOST_ROOT" "-I$BOOST_ROOT/include")
has_header() { echo "#include <$1>" | "${compiler[@]}" -std=c++20 "${include_flags[@]}" -E -x c++ - >/dev/null 2>&1; }
has_boost_json() {
  printf '#include <boost/version.hpp>\n#if BOOST_VERSION < 10%s00\n#error old\n#endif\n' "$boost_minimum" |
    "${compiler[@]}" "${include_flags[@]}" -E -x c++ - >/dev/null 2>&1 && has_header boost/json/src.hpp
}
has_sentencepiece() {
  has_header sentencepiece_trainer.h &&
    echo 'int main() {}' | "${compiler[@]}" -x c++ - -lsentencepiece_train -lsentencepiece -o /dev/null >/dev/null 2>&1
}

has_fuzzer() {
  echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' |
    clang++ -fsanitize=fuzzer,address,undefined -x c++ - -o /dev/null >/dev/null 2>&1
}
# The package of clang's run-time libraries is named after its version; where there is no clang yet, after the one to come.
fuzzer_package() {
  local version
  version=$({ clang++ -dumpversion || apt-cache policy clang | sed -nE 's/^  Candidate: ([0-9]+:)?([0-9]+).*/\2/p'; } 2>/dev/null)
  echo "libclang-rt-${version%%.*}-dev"
}

# The missing, as Debian's package names. Boost is apart: which package it is depends on the system.
missing=() optional=() boost_missing=no
find_missing() {
  missing=() boost_missing=no
  has "${compiler[0]}" || missing+=(g++)
  has cmake || missing+=(cmake)
  has ninja || missing+=(ninja-build)
  has make || missing+=(make)  # what cmake without -G takes
  has pkg-config || missing+=(pkg-config)
  has python3 || missing+=(python3)
  has_header Eigen/Core || missing+=(libeigen3-dev)
  has_header doctest/doctest.h || missing+=(doctest-dev)
  has_header CLI/CLI.hpp || missing+=(libcli11-dev)
  has_sentencepiece || missing+=(libsentencepiece-dev)
  has_boost_json || boost_missing=yes
  optional=()
  if [ "$machines" = yes ] && [ "$(uname -m)" = x86_64 ]; then
    has qemu-x86_64 || optional+=(qemu-user)
    has aarch64-linux-gnu-g++ || optional+=(g++-aarch64-linux-gnu)
  fi
  if [ "$developer" = yes ]; then
    has clang++ || missing+=(clang libomp-dev)
    has_fuzzer || missing+=("$(fuzzer_package)")
    has valgrind || missing+=(valgrind)
    has clang-tidy || missing+=(clang-tidy)
    has run-clang-tidy || missing+=(clang-tools)
    has clang-format || missing+=(clang-format)
    has doxygen || missing+=(doxygen)
    has_header benchmark/benchmark.h || missing+=(libbenchmark-dev)
  fi
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    env DEBIAN_FRONTEND=noninteractive "$@"
  elif has sudo; then
    sudo env DEBIAN_FRONTEND=noninteractive "$@"
  else
    fail "not root and no sudo here; as root run: $*"
  fi
}

# The versioned Boost header packages that are new enough and that apt offers, oldest first.
boost_packages() {
  apt-cache pkgnames libboost1. | sed -nE 's/^libboost1\.([0-9]+)-dev$/\1/p' | sort -n |
    while read -r minor; do
      [ "$minor" -ge "$boost_minimum" ] && apt_offers "libboost1.$minor-dev" && echo "libboost1.$minor-dev"
    done || true
}
apt_offers() { apt-cache policy "$1" 2>/dev/null | grep '^  Candidate: [0-9]' >/dev/null; }  # no -q: pipefail sees the broken pipe

boost_advice="Unpack the headers of Boost 1.$boost_minimum or newer from https://www.boost.org/releases/latest/ (nothing of it needs
building) and say BOOST_ROOT=DIR before this script and -DBOOST_ROOT=DIR to CMake."

# Package lists may be older than the mirror: a failure to install is tried again after reading them anew.
apt_install() {
  local options=(-q -y --no-remove --no-install-recommends)
  as_root apt-get install "${options[@]}" "$@" >&2 && return
  say "reading the package lists (apt-get update) and trying again"
  as_root apt-get update -q >&2 && as_root apt-get install "${options[@]}" "$@" >&2
}

install_with_apt() {
  local package
  for package in "${missing[@]}"; do
    apt_offers "$package" || { say "reading the package lists (apt-get update)"; as_root apt-get update -q >&2; break; }
  done
  if [ "$boost_missing" = yes ] && [ -z "$(boost_packages)" ]; then
    say "reading the package lists (apt-get update)"
    as_root apt-get update -q >&2
  fi
  if [ "${#missing[@]}" -gt 0 ]; then
    say "installing ${missing[*]}"
    apt_install "${missing[@]}" ||
      fail "apt-get could not install ${missing[*]} (above); without network, copy these packages here and install them with dpkg -i"
  fi
  if [ "$boost_missing" = yes ]; then
    local candidates
    mapfile -t candidates < <(boost_packages)
    [ "${#candidates[@]}" -gt 0 ] || fail "this system offers no libboost1.xx-dev of at least 1.$boost_minimum. $boost_advice"
    for package in "${candidates[@]}"; do
      say "installing $package (Boost.JSON)"
      apt_install "$package" && return
    done
    fail "apt-get could not install ${candidates[*]} (above). If an older Boost is in the way, remove it yourself if nothing needs it. Else:
$boost_advice"
  fi
}

check_versions() {
  local version minimum name
  version=$(cmake --version | sed -nE '1s/[^0-9]*([0-9.]+).*/\1/p')
  at_least "$cmake_minimum" "$version" ||
    fail "storylm needs CMake $cmake_minimum or newer; this is $version (https://cmake.org/download has newer ones)"
  if [[ $("${compiler[@]}" --version) == *clang* ]]; then
    name=clang minimum=$clang_minimum
    version=$("${compiler[@]}" --version | sed -nE '1s/.*version ([0-9.]+).*/\1/p')
  else
    name=g++ minimum=$gnu_minimum
    version=$("${compiler[@]}" -dumpfullversion)
  fi
  at_least "$minimum" "$version" ||
    fail "storylm needs $name $minimum or newer; ${compiler[*]} is $version (install a newer one and name it with CXX=...)"
}

find_missing
if [ "${#missing[@]}" -gt 0 ] || [ "$boost_missing" = yes ]; then
  if has apt-get; then
    install_with_apt
    find_missing
  fi
  [ "$boost_missing" = no ] || missing+=("Boost headers >= 1.$boost_minimum")
  if [ "${#missing[@]}" -gt 0 ]; then
    say "still missing (by Debian's names): $(printf '%s, ' "${missing[@]}" | sed 's/, $//')"
    has apt-get || say "this system has no apt-get: install the counterparts with its own package manager, then start again"
    [ "$boost_missing" = no ] || say "$boost_advice"
    exit 1
  fi
fi
if [ "${#optional[@]}" -gt 0 ]; then
  # Nobody is asked for a password for what may as well be left out.
  if has apt-get && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
    say "installing ${optional[*]}, for tests of other machines"
    (apt_install "${optional[@]}") || say "could not install ${optional[*]}: those tests will be skipped"
  else
    say "note: without ${optional[*]} tests of other machines will be skipped"
  fi
fi
check_versions
echo 'int main() {}' | "${compiler[@]}" -fopenmp -x c++ - -o /dev/null >/dev/null 2>&1 ||
  say "note: ${compiler[*]} has no OpenMP (clang's is in libomp-dev); everything will run on one thread"
say "everything needed is here"
