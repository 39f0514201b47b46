// What htmx does not do: the telemetry plot, sparklines, ticking all rows, and
// asking before something happens. Pages work without it.
'use strict';
(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const palette = () => [colour('--accent'), colour('--warn'), colour('--good'), colour('--bad'), colour('--muted'), '#9b6dd6'];

  document.addEventListener('click', (e) => {
    const button = e.target.closest('button[data-confirm]');
    if (button && !window.confirm(button.dataset.confirm)) e.preventDefault();
  });
  document.addEventListener('change', (e) => {
    const name = e.target.dataset && e.target.dataset.all;
    if (name) for (const box of document.querySelectorAll(`input[name="${name}"]`)) box.checked = e.target.checked;
  });

  // Sparklines: the page brings a number a second; the browser remembers them.
  const rates = new Map();
  function sparklines() {
    for (const place of document.querySelectorAll('[data-spark]')) {
      const seen = rates.get(place.dataset.spark) || [];
      seen.push(Number(place.dataset.rate));
      if (seen.length > 90) seen.shift();
      rates.set(place.dataset.spark, seen);
      const canvas = document.createElement('canvas');
      place.replaceChildren(canvas);
      const ratio = window.devicePixelRatio || 1, width = place.clientWidth, height = 22;
      canvas.width = width * ratio; canvas.height = height * ratio;
      const draw = canvas.getContext('2d');
      draw.scale(ratio, ratio);
      draw.strokeStyle = colour('--accent'); draw.lineWidth = 1.5;
      const most = Math.max(1, ...seen) * 1.1;
      draw.beginPath();
      seen.forEach((rate, i) => {
        const x = width - (seen.length - 1 - i) * (width / 89), y = height - 2 - (rate / most) * (height - 4);
        if (i) draw.lineTo(x, y); else draw.moveTo(x, y);
      });
      draw.stroke();
    }
  }
  document.addEventListener('htmx:afterSwap', sparklines);
  document.addEventListener('DOMContentLoaded', sparklines);

  // The plot picks up every field of a JSON body that is a number.
  function plot(place) {
    const most = 300, fields = [], times = [], values = [];
    let chart = null;
    function numbers(record) {
      const found = {};
      if (record.body && typeof record.body === 'object') {
        for (const [key, value] of Object.entries(record.body)) if (typeof value === 'number') found[key] = value;
      }
      return found;
    }
    function add(record) {
      const found = numbers(record);
      if (!Object.keys(found).length) return false;
      let fresh = false;
      for (const key of Object.keys(found)) {
        if (!fields.includes(key) && fields.length < 6) { fields.push(key); values.push(times.map(() => null)); fresh = true; }
      }
      times.push(Date.parse(record.enqueuedTime) / 1000);
      fields.forEach((key, i) => values[i].push(key in found ? found[key] : null));
      if (times.length > most) { times.shift(); values.forEach((v) => v.shift()); }
      return fresh ? 'fresh' : true;
    }
    function show(fresh) {
      if (!times.length) return;
      if (fresh || !chart) build(); else chart.setData([times, ...values]);
      const legend = document.getElementById('legend');
      legend.replaceChildren(...fields.map((key, i) => {
        const item = document.createElement('span');
        item.style.color = palette()[i];
        item.textContent = `${key} ${values[i][values[i].length - 1] ?? '–'}`;
        return item;
      }));
    }
    function build() {
      if (chart) chart.destroy();
      place.replaceChildren();
      const axis = { stroke: colour('--muted'), grid: { stroke: colour('--line'), width: 1 }, ticks: { stroke: colour('--line') } };
      chart = new uPlot({
        width: place.clientWidth, height: 260, cursor: { drag: { x: true, y: false } },
        axes: [axis, { ...axis, size: 56 }],
        series: [{}, ...fields.map((key, i) => ({ label: key, stroke: palette()[i], width: 1.75, spanGaps: true, points: { show: times.length < 40, size: 5 } }))],
      }, [times, ...values], place);
    }
    window.addEventListener('resize', () => { if (chart) chart.setSize({ width: place.clientWidth, height: 260 }); });
    return { add, show };
  }

  function row(record) {
    const tr = document.createElement('tr');
    const cells = [new Date(record.enqueuedTime).toLocaleString('sv'), record.sequence, record.body !== undefined ? JSON.stringify(record.body) : record.bodyBase64 || '', ''];
    cells.forEach((text, i) => {
      const td = document.createElement('td');
      if (i === 1) td.className = 'num';
      if (i === 2) { const code = document.createElement('code'); code.textContent = String(text).slice(0, 200); td.append(code); } else td.textContent = text;
      if (i === 3) for (const [key, value] of Object.entries(record.properties || {})) { const chip = document.createElement('span'); chip.className = 'chip plain'; chip.textContent = `${key}=${value}`; td.append(chip, ' '); }
      tr.append(td);
    });
    return tr;
  }
  function happened(record) {
    const li = document.createElement('li'), time = document.createElement('time'), chip = document.createElement('span');
    time.textContent = new Date(record.enqueuedTime).toLocaleString('sv');
    chip.className = 'chip plain'; chip.textContent = record.kind;
    li.append(time, ' ', chip, ' ', Object.entries(record.properties || {}).map(([k, v]) => `${k} ${v}`).join('  '));
    return li;
  }

  document.addEventListener('DOMContentLoaded', () => {
    const live = document.getElementById('live'), place = document.getElementById('plot');
    if (!live || !place) return;
    const drawing = plot(place);
    JSON.parse(place.dataset.recent || '[]').forEach(drawing.add);
    drawing.show(true);
    const stream = new EventSource(live.dataset.live);
    stream.addEventListener('panel', (e) => { document.getElementById('panel').innerHTML = e.data; });
    stream.addEventListener('telemetry', (e) => {
      const record = JSON.parse(e.data);
      const added = drawing.add(record);
      if (added) drawing.show(added === 'fresh');
      const messages = document.getElementById('messages');
      messages.prepend(row(record));
      while (messages.children.length > 20) messages.lastChild.remove();
    });
    stream.addEventListener('happened', (e) => {
      const events = document.getElementById('events');
      const empty = events.querySelector('.empty');
      if (empty) empty.remove();
      events.prepend(happened(JSON.parse(e.data)));
      while (events.children.length > 50) events.lastChild.remove();
    });
    window.addEventListener('pagehide', () => stream.close());
  });
})();
