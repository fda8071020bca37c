#!/bin/bash
# Checks the format of every source, as clang-format-14 and buildifier 8.2.1 write it; --fix writes
# it. Last line: 'N passed, N failed, N skipped', one case for each of the two programs.
#
# What is missing is installed: clang-format-14 (and npm) with apt-get, if root runs this
# (BAZELW_INSTALL=0 forbids it), buildifier with npm into ~/.cache. A program that is not to be had
# counts as skipped.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

fix=
case ${1-} in
  '') ;;
  --fix) fix=1 ;;
  *) echo "usage: tests/ci/format.sh [--fix]" >&2 && exit 2 ;;
esac

readonly BUILDIFIER=8.2.1
# Not: what Bazel 8 removes from the language (native rules), which Bazel 4 needs.
readonly WARNINGS=-native-py,-native-sh-test,-native-sh-binary,-native-cc-common,-native-cc-info,-native-cc-library,-unnamed-macro

# sources PATTERN...: files of ours whose name matches one of them.
sources() {
  local match=(-false)
  for pattern; do match+=(-o -name "$pattern"); done
  find . -name '.?*' -prune -o -path './bazel-*' -prune -o -name node_modules -prune -o \
    -type f \( "${match[@]}" \) -print | sort
}

# Installs Debian's packages, where that is possible and allowed.
apt_install() {
  [ "${BAZELW_INSTALL:-1}" = 1 ] && [ "$(id -u)" = 0 ] && type -P apt-get >/dev/null || return
  local get=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  {
    "${get[@]}" install -y --no-install-recommends "$@" ||
      { "${get[@]}" update && "${get[@]}" install -y --no-install-recommends "$@"; }
  } >&2
}

find_clang_format() {
  type -P clang-format-14 || { apt_install clang-format-14 && type -P clang-format-14; }
}

find_buildifier() {
  local found
  if found=$(type -P buildifier) && "$found" --version | grep -q "version: $BUILDIFIER "; then
    echo "$found"
    return
  fi
  local folder=${XDG_CACHE_HOME:-$HOME/.cache}/residual/buildifier-$BUILDIFIER
  found=$folder/node_modules/.bin/buildifier
  if [ ! -x "$found" ]; then
    type -P npm >/dev/null || apt_install npm || return
    mkdir -p "$folder" && npm install --prefix "$folder" --no-audit --no-fund \
      "@bazel/buildifier@$BUILDIFIER" >&2 || return
  fi
  echo "$found"
}

passed=0 failed=0 skipped=0
# result NAME STATUS
result() {
  if [ "$2" = 0 ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAILED: $1; tests/ci/format.sh --fix repairs what is only format"
  fi
}
skip() {
  skipped=$((skipped + 1))
  echo "skipped: $1"
}

if program=$(find_clang_format); then
  mode=(--dry-run -Werror)
  [ -z "$fix" ] || mode=(-i)
  sources '*.h' '*.cc' '*.cu' | xargs -r "$program" --style=file "${mode[@]}"
  result "clang-format" $?
else
  skip "clang-format-14 is not installed"
fi

if program=$(find_buildifier); then
  mode=(-mode=check -lint=warn)
  [ -z "$fix" ] || mode=(-mode=fix -lint=fix)
  sources BUILD WORKSPACE '*.bzl' '*.BUILD' '*.bazel' |
    xargs -r "$program" "${mode[@]}" "-warnings=$WARNINGS"
  result "buildifier" $?
else
  skip "no buildifier $BUILDIFIER, and no npm to get it"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
