#!/bin/sh
# Usage: vega_test.sh vega.min.js
set -eu
if ! command -v node >/dev/null; then
  cat >"$XML_OUTPUT_FILE" <<X
<testsuites><testsuite name="vega"><testcase name="vega"><skipped message="no node on the PATH"/>
</testcase></testsuite></testsuites>
X
  echo "skipped: no node on the PATH"
  exit 0
fi
exec node "$(dirname "$0")/vega_test.js" "$1"
