#!/bin/sh
# Usage: bundle.sh LICENSE SCRIPT... > vega.min.js
#
# With one script (upstream's own bundle), puts the licence before it. With several, wraps
# each as a CommonJS module named as its file; the last one is run and its exports become
# the global `vega`.
set -eu
license=$1
shift

echo '/*!'
sed 's/^/ * /; s/ *$//' "$license"
echo ' */'
if [ $# = 1 ]; then
  grep -v '^//# sourceMappingURL=' "$1"
  exit
fi

echo '(function (root) {'
echo 'const modules = {}, loaded = {};'
echo 'function require(name) {'
echo '  if (!(name in loaded)) modules[name]({exports: loaded[name] = {}}, loaded[name], require);'
echo '  return loaded[name];'
echo '}'
for script; do
  name=$(basename "$script" .js)
  name=${name%.min}
  # The package's file is vega-selection; those who use it call it vega-selections.
  [ "$name" != vega-selection ] || name=vega-selections
  echo "modules['$name'] = function (module, exports, require) {"
  grep -v '^//# sourceMappingURL=' "$script"
  echo '};'
done
echo "root.vega = require('$name');"
echo '})(globalThis);'
