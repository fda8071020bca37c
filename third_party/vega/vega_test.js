// Usage: node vega_test.js vega.min.js
// Runs the script as a page would (no require, no module) and renders a plot to SVG.
const assert = require('assert');
const fs = require('fs');
const vm = require('vm');

const text = fs.readFileSync(process.argv[2], 'utf8');
assert(!/<\/script|<!--/i.test(text), 'cannot be pasted into a page');
assert(!/sourceMappingURL/.test(text), 'a page would ask for a source map');
assert(/^\/\*!\n \* Copyright \(c\) 2015-2021, University of Washington/.test(text), 'licence');

const page = vm.createContext({console, setTimeout, clearTimeout, performance, URL});
vm.runInContext(text, page);
assert.strictEqual(page.vega.version, '5.22.1');

const spec = {
  $schema: 'https://vega.github.io/schema/vega/v5.json',
  width: 200,
  height: 100,
  data: [
    {
      name: 'loss',
      values: [0, 1, 2, 3].flatMap(x => [{x, y: 4 - x, s: 'train'}, {x, y: 4.5 - x, s: 'valid'}]),
    },
    {
      name: 'mean',
      source: 'loss',
      transform: [{type: 'aggregate', groupby: ['s'], fields: ['y'], ops: ['mean'], as: ['m']}],
    },
  ],
  scales: [
    {name: 'x', type: 'linear', range: 'width', domain: {data: 'loss', field: 'x'}},
    {name: 'y', type: 'log', range: 'height', domain: {data: 'loss', field: 'y'}},
    {name: 'color', type: 'ordinal', range: {scheme: 'tableau10'}, domain: ['train', 'valid']},
    {name: 'heat', type: 'linear', range: {scheme: 'viridis'}, domain: [0, 1]},
  ],
  axes: [
    {orient: 'bottom', scale: 'x', title: 'step'},
    {orient: 'left', scale: 'y', title: 'loss', format: '.2f'},
  ],
  legends: [{stroke: 'color'}, {fill: 'heat', type: 'gradient'}],
  signals: [{name: 'over', on: [{events: 'symbol:mouseover', update: 'datum'}]}],
  marks: [
    {
      type: 'group',
      from: {facet: {name: 'one', data: 'loss', groupby: 's'}},
      marks: [{
        type: 'line',
        from: {data: 'one'},
        encode: {
          update: {
            x: {scale: 'x', field: 'x'},
            y: {scale: 'y', field: 'y'},
            stroke: {scale: 'color', field: 's'},
            tooltip: {signal: 'format(datum.y, \'.3f\')'},
          },
        },
      }],
    },
    {
      type: 'rect',
      encode: {
        update: {
          x: {value: 0},
          width: {value: 9},
          y: {value: 0},
          height: {value: 9},
          fill: {scale: 'heat', value: 1},
        },
      },
    },
  ],
};

(async () => {
  const view = new page.vega.View(page.vega.parse(spec), {renderer: 'none'});
  const svg = await view.toSVG();
  const lines = svg.match(/<path[^>]*d="M[^"]*L[^"]*L[^"]*L[^"]*"[^>]*>/g) || [];
  assert.strictEqual(
      lines.filter(l => /stroke="#4c78a8"|stroke="#f58518"/.test(l)).length, 2, svg);
  assert(svg.includes('>step<') && svg.includes('>train<') && svg.includes('>4.00<'), svg);
  assert(/fill="rgb\(253, 231, 37\)"|fill="#fde725"/.test(svg), svg);
  assert.strictEqual(view.data('mean').map(d => d.m).join(), '2.5,3');
  console.log('ok, ' + text.length + ' characters');
})().catch(e => {
  console.error(e);
  process.exit(1);
});
