// What upstream's packages/vega/index.js does, on Debian's parts of Vega: registers the
// transforms and exports the public names. Run by bundle.sh, which supplies `require`.
const dataflow = require('vega-dataflow');
const format = require('vega-format');

for (const part of ['transforms', 'view-transforms', 'encode', 'force', 'hierarchy', 'label',
                    'regression', 'wordcloud', 'crossfilter']) {
  Object.assign(dataflow.transforms, require('vega-' + part));
}

function pick(module, names) {
  return Object.fromEntries(names.map(name => [name, module[name]]));
}

Object.assign(
    exports,
    require('vega-statistics'),
    require('vega-time'),
    require('vega-util'),
    require('vega-loader'),
    require('vega-scenegraph'),
    pick(dataflow, [
      'Dataflow', 'EventStream', 'Parameters', 'Pulse', 'MultiPulse', 'Operator', 'Transform',
      'changeset', 'ingest', 'isTuple', 'definition', 'transform', 'transforms', 'tupleid',
    ]),
    pick(require('vega-scale'), [
      'scale', 'scheme', 'interpolate', 'interpolateColors', 'interpolateRange',
      'quantizeInterpolator',
    ]),
    pick(format, ['locale', 'defaultLocale', 'resetDefaultLocale']), {
      version: '5.22.1',
      View: require('vega-view').View,
      formatLocale: format.numberFormatDefaultLocale,
      timeFormatLocale: format.timeFormatDefaultLocale,
      expressionFunction: require('vega-functions').expressionFunction,
      parse: require('vega-parser').parse,
      runtimeContext: require('vega-runtime').context,
      codegenExpression: require('vega-expression').codegenExpression,
      parseExpression: require('vega-expression').parseExpression,
      parseSelector: require('vega-event-selector').parseSelector,
    });
