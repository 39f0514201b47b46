// The plot of a device's telemetry: each number found in its messages is a
// series with a scale of its own, so that 20 °C and 1013 hPa both show.
"use strict";
(() => {
  const box = document.getElementById("plot");
  if (!box || typeof uPlot === "undefined") return;
  const most = 600;
  const height = () => (innerWidth < 600 ? 200 : 240);
  let names = [], points = [], plot = null, due = false;

  const colour = (name) => {
    const probe = document.createElement("span");
    probe.className = "probe " + name;
    box.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  };

  const shown = (v) => (v == null ? "–" : Math.abs(v) >= 1e6 || (v !== 0 && Math.abs(v) < 1e-3) ? v.toExponential(2) : +v.toFixed(3) + "");

  const data = () => [points.map((p) => p.t / 1000), ...names.map((n) => points.map((p) => p.v[n] ?? null))];

  const scaleOf = (i) => "s" + i;
  const build = () => {
    const hidden = new Set(plot ? plot.series.slice(1).filter((s) => !s.show).map((s) => s.label) : []);
    if (plot) plot.destroy();
    box.replaceChildren();
    const ink = colour("ink"), grid = colour("grid");
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "11px system-ui, sans-serif" };
    plot = new uPlot({
      width: box.clientWidth, height: height(),
      scales: Object.fromEntries(names.map((_, i) => [scaleOf(i), { auto: true }])),
      cursor: { drag: { x: false, y: false }, points: { size: 5 } },
      legend: { live: true },
      // Without a pointer over the plot, the legend tells the newest numbers.
      hooks: { setCursor: [(u) => u.cursor.left < 0 && u.setLegend({ idx: points.length - 1 }, false)] },
      axes: [
        { ...axis, values: "{HH}:{mm}:{ss}", space: 70 },
        ...(names.length ? [{ ...axis, scale: scaleOf(0), size: 52, stroke: colour("c0"), values: (_, vs) => vs.map(shown) }] : []),
        ...(names.length > 1 ? [{ ...axis, scale: scaleOf(1), side: 1, size: 52, stroke: colour("c1"), grid: { show: false }, values: (_, vs) => vs.map(shown) }] : []),
      ],
      series: [
        { label: "Time", value: (_, v) => (v == null ? "–" : new Date(v * 1000).toISOString().slice(11, 19)) },
        ...names.map((label, i) => ({ label, scale: scaleOf(i), stroke: colour("c" + (i % 6)), width: 1.5, spanGaps: true, show: !hidden.has(label), points: { show: points.length < 3 }, value: (_, v) => shown(v) })),
      ],
      tzDate: (ts) => uPlot.tzDate(new Date(ts * 1e3), "Etc/UTC"),
    }, data(), box);
  };

  const draw = () => {
    due = false;
    const found = [...new Set(points.flatMap((p) => Object.keys(p.v)))].sort().slice(0, 12);
    if (found.length === 0) return;
    if (!plot || found.join("\n") !== names.join("\n")) {
      names = found;
      build();
    } else plot.setData(data());
  };

  document.addEventListener("points", ({ detail }) => {
    if (detail.reset) points = [];
    points = points.concat(detail.points || []).sort((a, b) => a.t - b.t).slice(-most);
    if (!due) requestAnimationFrame(draw);
    due = true;
  });
  new ResizeObserver(() => plot && plot.width !== box.clientWidth && plot.setSize({ width: box.clientWidth, height: height() })).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot && build());
})();
