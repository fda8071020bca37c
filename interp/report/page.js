'use strict';
(() => {
  const root = document.documentElement;
  const color = name => getComputedStyle(root).getPropertyValue(name).trim();

  // Plots: Vega specifications drawn as SVG in the page's colours, again when the scheme changes.

  const tip = document.createElement('div');
  tip.id = 'tip';
  tip.hidden = true;
  tip.setAttribute('role', 'status');
  document.body.append(tip);

  function showTip(view, event, item, text) {
    tip.hidden = text == null || text === '';
    if (tip.hidden) return;
    tip.textContent = text;
    const x = event.clientX, y = event.clientY, box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 4)) + 'px';
    tip.style.top = (y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18) + 'px';
  }
  addEventListener('scroll', () => { tip.hidden = true; }, {passive: true});

  function config() {
    const ink = color('--ink'), soft = color('--soft'), line = color('--line');
    const font = color('--sans');
    return {
      background: null,
      axis: {
        labelColor: soft, titleColor: soft, gridColor: line, domainColor: line, tickColor: line,
        labelFont: font, titleFont: font, labelFontSize: 12, titleFontSize: 12,
        titleFontWeight: 'normal', titlePadding: 8, labelPadding: 5, tickSize: 4,
      },
      legend: {
        labelColor: ink, titleColor: soft, labelFont: font, titleFont: font, labelFontSize: 12.5,
        titleFontSize: 12, titleFontWeight: 'normal', symbolStrokeWidth: 2.5, symbolSize: 160,
        labelLimit: 260,
      },
      title: {color: ink, font, fontSize: 14, fontWeight: 600},
      text: {fill: ink, font, fontSize: 12},
      rule: {stroke: soft},
      range: {category: [1, 2, 3, 4, 5].map(i => color('--series-' + i))},
      // For specifications: what has no place in a scale.
      signals: [
        {name: 'ink', value: ink}, {name: 'soft', value: soft}, {name: 'rulecolor', value: line},
        {name: 'bandcolor', value: color('--band')}, {name: 'paper', value: color('--paper')},
        {name: 'accent', value: color('--series-1')}, {name: 'second', value: color('--series-2')},
        {name: 'muted', value: color('--series-5')},
      ],
    };
  }

  const plots = [...document.querySelectorAll('figure.plot')].map(figure => ({
    box: figure.querySelector('.vega'),
    spec: JSON.parse(figure.querySelector('script').textContent),
    view: null,
  }));

  function draw() {
    const theme = config();
    for (const plot of plots) {
      if (plot.view) plot.view.finalize();
      plot.view = new vega.View(vega.parse(plot.spec, theme), {
        renderer: 'svg', container: plot.box, hover: true,
        tooltip: (handler, event, item, value) => showTip(handler, event, item, value),
      });
      // The figure's own label says in words what there is to see.
      plot.view.runAsync().then(() => {
        const svg = plot.box.querySelector('svg');
        if (svg) svg.setAttribute('aria-hidden', 'true');
      });
    }
  }

  // Token views.

  function unpack(text, n) {
    const bytes = atob(text), weight = [];
    for (let query = 0, i = 0; query < n; ++query) {
      weight.push([]);
      for (let key = 0; key <= query; ++key) weight[query].push(bytes.charCodeAt(i++) / 255);
    }
    return weight;
  }

  const views = [...document.querySelectorAll('figure.tokens')].map(tokenView);

  function tokenView(figure) {
    const data = JSON.parse(figure.querySelector('script').textContent);
    const spans = [...figure.querySelectorAll('.strip span')], n = spans.length;
    const heads = data.heads.map(head => ({...head, weight: unpack(head.pattern, n)}));
    const strip = figure.querySelector('.strip'), readout = figure.querySelector('.readout');
    const canvas = figure.querySelector('canvas'), group = figure.querySelector('.heads');
    let current = 0, selected = data.selected;

    const buttons = heads.map((head, h) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.setAttribute('role', 'radio');
      button.textContent = head.name + ' ';
      const note = document.createElement('span');
      note.textContent = head.note;
      button.append(note);
      button.addEventListener('click', () => choose(h));
      group.append(button);
      return button;
    });
    group.addEventListener('keydown', event => {
      const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      if (!step) return;
      event.preventDefault();
      choose((current + step + heads.length) % heads.length);
      buttons[current].focus();
    });

    function choose(h) {
      current = h;
      buttons.forEach((button, i) => {
        button.setAttribute('aria-checked', String(i === h));
        button.tabIndex = i === h ? 0 : -1;
      });
      paint();
      select(selected);
    }

    function select(query) {
      spans[selected].setAttribute('aria-selected', 'false');
      spans[selected].tabIndex = -1;
      selected = query;
      spans[query].setAttribute('aria-selected', 'true');
      spans[query].tabIndex = 0;
      const weight = heads[current].weight[query];
      spans.forEach((span, key) => {
        span.style.setProperty('--weight', key <= query ? (0.9 * weight[key]).toFixed(3) : 0);
      });
      const top = weight.map((w, key) => [w, key]).sort((a, b) => b[0] - a[0]).slice(0, 3);
      const shown = i => {
        const b = document.createElement('b');
        b.textContent = data.tokens[i];
        return b;
      };
      readout.replaceChildren('From ', shown(query), ` (position ${query}) ${heads[current].name} looks at `);
      top.filter(([w], i) => i === 0 || w >= 0.03).forEach(([w, key], i) => {
        readout.append(i ? ', ' : '', shown(key), ` (${key}): ${Math.round(100 * w)} %`);
      });
      readout.append('.');
      mark();
    }

    let pixels = null;
    function paint() {
      canvas.width = canvas.height = n;
      const context = canvas.getContext('2d');
      const [r, g, b] = color('--heat').split(' ').map(Number);
      pixels = context.createImageData(n, n);
      heads[current].weight.forEach((row, query) => row.forEach((w, key) => {
        pixels.data.set([r, g, b, Math.round(255 * Math.sqrt(w))], 4 * (query * n + key));
      }));
    }
    // The picture, and over it the row of the selected token.
    function mark() {
      const context = canvas.getContext('2d');
      context.putImageData(pixels, 0, 0);
      context.fillStyle = color('--series-2');
      context.globalAlpha = 0.28;
      context.fillRect(0, selected, selected + 1, 1);
      context.globalAlpha = 1;
    }

    const at = event => spans.indexOf(event.target.closest('.strip span'));
    for (const kind of ['pointerover', 'click']) {
      strip.addEventListener(kind, event => { if (at(event) >= 0) select(at(event)); });
    }
    strip.addEventListener('focusin', event => { if (at(event) >= 0) select(at(event)); });
    strip.addEventListener('keydown', event => {
      const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 8, ArrowUp: -8}[event.key];
      const to = event.key === 'Home' ? 0 : event.key === 'End' ? n - 1 : step && selected + step;
      if (to == null || to < 0 || to >= n) return;
      event.preventDefault();
      spans[to].focus();
    });
    for (const kind of ['pointermove', 'pointerdown']) {
      canvas.addEventListener(kind, event => {
        const box = canvas.getBoundingClientRect();
        const row = Math.floor((event.clientY - box.top) / box.height * n);
        if (row >= 0 && row < n) select(row);
      });
    }
    choose(0);
    return () => { paint(); mark(); };
  }

  draw();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    draw();
    views.forEach(repaint => repaint());
  });
})();
