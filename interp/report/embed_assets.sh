#!/bin/sh
# Usage: embed_assets.sh NAME FILE [NAME FILE]...
#
# Prints page_assets.cc: for each pair a function NAME that returns the file's text.
set -eu
echo '#include "interp/report/page_assets.h"'
echo 'namespace residual {'
while [ $# -ge 2 ]; do
  if grep -q -e ')asset"' -e '</script' "$2"; then
    echo "$2 cannot be embedded: it holds )asset\" or </script" >&2
    exit 1
  fi
  printf 'absl::string_view %s() {\n  static constexpr char kText[] = R"asset(' "$1"
  cat "$2"
  printf ')asset";\n  return absl::string_view(kText, sizeof(kText) - 1);\n}\n'
  shift 2
done
echo '}  // namespace residual'
