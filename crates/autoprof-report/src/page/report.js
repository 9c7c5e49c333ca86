"use strict";
// Draws what the page carries. All texts of hosts reach the page as text, never as markup.
(async () => {
  const element = (id) => document.getElementById(id);
  const make = (tag, text, kind) => {
    const made = document.createElement(tag);
    if (text) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  const unpack = async (id) => {
    const text = atob(element(id).textContent), packed = new Uint8Array(text.length);
    for (let n = 0; n < text.length; n++) packed[n] = text.charCodeAt(n);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };
  // The charts' library takes some markup in texts of its own; what a host said is to be shown, not understood.
  const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  const meta = JSON.parse(await unpack("data-meta"));
  const script = document.createElement("script");
  script.textContent = await unpack("data-plotly");
  document.head.append(script);
  const Plotly = window.Plotly;

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const lineColours = ["#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#ff9da6", "#9d755d", "#eeca3b", "#7f7f9f", "#bab0ac", "#2f9e8f"];
  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    return (name) => style.getPropertyValue(name).trim();
  };
  const scale = () => dark.matches && !printing
    ? [[0, "#1c2027"], [0.25, "#35356b"], [0.5, "#8a3b7d"], [0.75, "#e8635a"], [1, "#fde19b"]]
    : [[0, "#f6f7f9"], [0.25, "#fbd9a3"], [0.5, "#f29a5c"], [0.75, "#cf4a4f"], [1, "#5e1a52"]];
  let printing = false;
  // Half of a page of A4 or Letter, without what is around a chart, in CSS pixels: a browser measures charts as they
  // are on the screen.
  const PRINTED = 322;

  const whole = [meta.begin_ms, meta.end_ms];
  let range = whole.slice();
  const drawn = new Map();
  const iso = (ms) => new Date(ms).toISOString();

  const bands = () => {
    const colour = colours();
    const shapes = [], annotations = [];
    const band = (x0, x1, fill, opacity) => shapes.push({ type: "rect", xref: "x", yref: "paper", x0: iso(x0), x1: iso(x1), y0: 0, y1: 1, fillcolor: fill, opacity, line: { width: 0 }, layer: "below" });
    for (const w of meta.windows) band(w.from, w.to, colour("--band"), 0.08);
    // Names that would stand on one another go below each other.
    const rows = [];
    for (const m of [...meta.marks].sort((a, b) => a.at - b.at)) {
      shapes.push({ type: "line", xref: "x", yref: "paper", x0: iso(m.at), x1: iso(m.at), y0: 0, y1: 1, line: { color: colour("--soft"), width: 1, dash: "dot" } });
      const late = m.at > whole[0] + 0.7 * (whole[1] - whole[0]);
      const share = (m.at - whole[0]) / (whole[1] - whole[0]), width = 0.02 + 0.012 * m.name.length;
      const [from, to] = late ? [share - width, share] : [share, share + width];
      let row = rows.findIndex((end) => end <= from);
      if (row < 0) row = rows.length;
      rows[row] = to;
      annotations.push({ xref: "x", yref: "paper", x: iso(m.at), y: 1, yshift: -11 * row, text: plain(m.name), showarrow: false, xanchor: late ? "right" : "left", yanchor: "bottom", font: { size: 10, color: colour("--soft") } });
    }
    return { shapes, annotations };
  };

  const layout = (extra) => {
    const colour = colours();
    const { shapes, annotations } = bands();
    const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true };
    return {
      width: printing ? PRINTED : undefined, autosize: !printing,
      margin: { l: 52, r: 12, t: 18, b: 30 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("--text"), size: 11, family: "system-ui, sans-serif" }, colorway: lineColours,
      hovermode: "x unified", hoverlabel: { bgcolor: colour("--back"), bordercolor: colour("--line"), font: { color: colour("--text") }, namelength: 40 },
      legend: { orientation: "h", y: -0.16, x: 0, font: { size: 10 } }, dragmode: "zoom",
      xaxis: { ...axis, type: "date", range: range.map(iso), hoverformat: "%H:%M:%S.%L", tickangle: 0, nticks: 7, tickformatstops: [
        { dtickrange: [null, 999], value: "%H:%M:%S.%L" }, { dtickrange: [1000, 59999], value: "%H:%M:%S" },
        { dtickrange: [60000, 86399999], value: "%H:%M" }, { dtickrange: [86400000, null], value: "%b %d" }] },
      yaxis: { ...axis, rangemode: "tozero", fixedrange: false },
      shapes, annotations, ...extra(axis),
    };
  };
  const config = { displayModeBar: false, responsive: true };

  const traces = (chart) => {
    if (chart.heat) {
      const { rows, begin, step, z, most } = chart.heat;
      const x = Array.from({ length: z[0]?.length ?? 0 }, (_, n) => iso(meta.begin_ms + begin + (n + 0.5) * step));
      return [{ type: "heatmap", x, y: rows.map((row) => plain(row)), z, zmin: 0, zmax: most, colorscale: scale(), colorbar: { thickness: 10, outlinewidth: 0, len: 1 }, hovertemplate: "%{y}  %{x|%H:%M:%S}<br>%{z} " + plain(chart.unit) + "<extra></extra>" }];
    }
    if (chart.kind === "bars") {
      return [{ type: "bar", orientation: "h", y: chart.lines.map((line) => plain(line.name)), x: chart.lines.map((line) => line.v[0]), hovertemplate: "%{y}: %{x} " + plain(chart.unit) + "<extra></extra>" }];
    }
    return chart.lines.map((line) => {
      let at = meta.begin_ms;
      const trace = { type: "scatter", mode: "lines", name: plain(line.name), x: line.t.map((step) => iso(at += step)), y: line.v, line: { width: 1.3 } };
      if (chart.kind === "stack") Object.assign(trace, { stackgroup: "one", line: { width: 0.5 } });
      return trace;
    });
  };

  const draw = (plot) => {
    const chart = plot.chart;
    const bytes = chart.unit.startsWith("bytes");
    const tall = chart.heat ? Math.max(170, Math.min(900, 70 + chart.heat.rows.length * (chart.fleet ? 16 : 12))) : 250;
    plot.style.height = tall + "px";
    const extra = (axis) => chart.kind === "bars"
      ? { height: tall, hovermode: "closest", shapes: [], annotations: [], dragmode: false, xaxis: { ...axis, fixedrange: true }, yaxis: { ...axis, type: "category", autorange: "reversed", fixedrange: true } }
      : chart.heat
      ? { height: tall, hovermode: "closest", yaxis: { ...axis, type: "category", autorange: "reversed", fixedrange: true } }
      : { height: tall, yaxis: { ...axis, rangemode: "tozero", tickformat: bytes ? ".3~s" : undefined, hoverformat: bytes ? ".4~s" : undefined } };
    Plotly.react(plot, traces(chart), layout(extra), config);
    if (drawn.has(plot)) return;
    drawn.set(plot, true);
    plot.on("plotly_relayout", (change) => {
      if (plot.following) return;
      if (change["xaxis.autorange"]) zoom(whole);
      else if (change["xaxis.range[0]"]) zoom([0, 1].map((n) => Date.parse(String(change[`xaxis.range[${n}]`]).replace(" ", "T").replace(/(\.\d{3})\d*$/, "$1") + "Z")));
    });
    plot.on("plotly_click", (event) => {
      const row = chart.fleet && event.points[0];
      if (row) choose(chart.names[row.pointIndex?.[0] ?? row.pointNumber[0]]);
    });
  };

  const zoom = (to) => {
    const [low, high] = [Math.max(whole[0], Math.min(...to)), Math.min(whole[1], Math.max(...to))];
    range = high - low < 1 ? whole.slice() : [low, high];
    element("range").textContent = range[0] === whole[0] && range[1] === whole[1] ? "whole run" : `${iso(range[0]).slice(11, 23)} – ${iso(range[1]).slice(11, 23)}`;
    for (const plot of drawn.keys()) {
      if (!plot.isConnected) { drawn.delete(plot); continue; }
      if (plot.chart.kind === "bars") continue;
      plot.following = true;
      Plotly.relayout(plot, { "xaxis.range": range.map(iso) }).then(() => { plot.following = false; });
    }
  };
  const step = (factor, shift) => {
    const width = Math.min((range[1] - range[0]) * factor, whole[1] - whole[0]);
    const middle = (range[0] + range[1]) / 2 + shift * width;
    // At the ends it stops, as wide as it was.
    const from = Math.min(Math.max(middle - width / 2, whole[0]), whole[1] - width);
    zoom([from, from + width]);
  };
  for (const [id, factor, shift] of [["zoom-in", 0.5, 0], ["zoom-out", 2, 0], ["earlier", 1, -0.5], ["later", 1, 0.5]]) element(id).onclick = () => step(factor, shift);
  element("zoom-all").onclick = () => zoom(whole);

  // Charts are drawn when they come into sight: a fleet's report opens at once.
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting && !drawn.has(entry.target)) draw(entry.target);
  }, { rootMargin: "300px" });

  const figure = (chart, into) => {
    const box = make("figure"), caption = make("figcaption"), plot = make("div", "", chart.heat ? "plot heat" : "plot");
    caption.append(make("b", [chart.section, chart.title].filter(Boolean).join(": ")));
    caption.append(make("span", `  ${chart.unit}`, "soft"));
    if (chart.note) caption.append(make("span", `  (${chart.note})`, "soft small"));
    if (chart.source) caption.append(make("span", `  ${chart.source}`, "soft small"));
    plot.chart = chart;
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", `${caption.textContent}; the figures are in the table of this section`);
    box.append(caption, plot);
    into.append(box);
    watcher.observe(plot);
  };

  // The fleet.
  const pick = element("metric");
  const showFleet = () => {
    const metric = meta.fleet[pick.selectedIndex];
    const holder = element("fleet-charts");
    holder.replaceChildren();
    figure({ section: "", title: metric.title, unit: metric.unit, kind: "heat", fleet: true, note: "hosts that differ most come first; click one to see it below", names: metric.heat.rows, heat: metric.heat }, holder);
  };
  if (pick) { pick.onchange = showFleet; showFleet(); }

  // One host.
  const hosts = element("host");
  let asked = 0;
  const showHost = async () => {
    const mine = ++asked, holder = element("host-charts");
    const charts = JSON.parse(await unpack(`data-host-${hosts.selectedIndex}`));
    if (mine !== asked) return;
    holder.replaceChildren();
    for (const chart of charts) figure(chart, holder);
    if (!charts.length) holder.append(make("p", "No table with a time axis came back from this host.", "soft"));
    document.querySelectorAll("[data-host-table]").forEach((table) => { table.hidden = table.dataset.hostTable !== String(hosts.selectedIndex); });
  };
  const choose = (name) => {
    const at = [...hosts.options].findIndex((option) => option.value === name);
    if (at < 0) return;
    hosts.selectedIndex = at;
    showHost();
    element("hosts").scrollIntoView();
  };
  hosts.onchange = showHost;
  await showHost();

  // Flame graphs: files of their own inside the page.
  const flames = element("flame-of");
  let shown = "", wanted = 0;
  const showFlame = async () => {
    const mine = ++wanted;
    const svg = await unpack(`data-flame-${flames.value}`);
    const there = element(`data-timeline-${flames.value}`);
    const samples = there && JSON.parse(await unpack(there.id));
    // Another one was asked for meanwhile.
    if (mine !== wanted) return;
    if (shown) URL.revokeObjectURL(shown);
    shown = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
    element("flame").src = shown;
    element("flame-open").href = shown;
    showTimeline(samples);
  };

  // Of a host whose samples have times: a heat map of seconds and parts of a second, and the flame graph of an interval.
  const STEP = 20, STEPS = 1000 / STEP, DEEPEST = 512;
  let timeline = null, interval = null, choosing = null;
  const showTimeline = (samples) => {
    element("interval").hidden = !samples;
    timeline = samples;
    let step = 0;
    if (timeline) timeline.at = timeline.step.map((more) => step += more);
    choosing = null;
    setFlameInterval(null);
    if (timeline) drawSubsecond();
  };
  const drawSubsecond = () => {
    const seconds = Math.floor(timeline.at.at(-1) / STEPS) + 1, colour = colours();
    const z = Array.from({ length: STEPS }, () => new Array(seconds).fill(0));
    // The idle task would hide what the others do.
    const idle = timeline.stacks.map((stack) => stack === "swapper" || stack.startsWith("swapper;"));
    timeline.at.forEach((at, n) => { if (!idle[timeline.stack[n]]) z[at % STEPS][Math.floor(at / STEPS)] += timeline.count[n]; });
    const plot = element("subsecond"), height = 260;
    plot.style.height = height + "px";
    const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), zeroline: false, automargin: true };
    const whole = interval ? [[interval[0], interval[1]]] : [];
    const shapes = whole.map(([from, to]) => ({ type: "rect", xref: "x", yref: "paper", x0: from / 1000 - 0.5, x1: Math.max(to / 1000 - 0.5, from / 1000 - 0.48), y0: 0, y1: 1, line: { color: colour("--link"), width: 2 } }));
    Plotly.react(plot, [{ type: "heatmap", x0: 0, dx: 1, y0: 0, dy: STEP, z, colorscale: scale(), colorbar: { thickness: 10, outlinewidth: 0, len: 1 }, hovertemplate: "%{x} s + %{y} ms<br>%{z} samples<extra></extra>" }],
      { height, margin: { l: 52, r: 12, t: 8, b: 36 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("--text"), size: 11, family: "system-ui, sans-serif" }, dragmode: false,
        xaxis: { ...axis, title: { text: "seconds after the begin", font: { size: 11 } }, fixedrange: true }, yaxis: { ...axis, title: { text: "ms", font: { size: 11 } }, fixedrange: true }, shapes }, config);
    if (plot.listens) return;
    plot.listens = true;
    plot.on("plotly_click", (event) => {
      const { x, y } = event.points[0], at = x * 1000 + y;
      if (choosing === null) {
        choosing = at;
        element("interval-text").textContent = `from ${(at / 1000).toFixed(2)} s: now click where it ends`;
        return;
      }
      setFlameInterval([Math.min(choosing, at), Math.max(choosing, at) + STEP]);
      choosing = null;
      drawSubsecond();
    });
  };
  const setFlameInterval = (to) => {
    element("flame").classList.remove("away");
    if (!timeline) return;
    const end = (timeline.at.at(-1) + 1) * STEP;
    interval = to && to[1] > to[0] ? [Math.max(0, to[0]), Math.min(end, to[1])] : null;
    const [from, until] = interval ?? [0, end];
    element("from").value = (from / 1000).toFixed(2);
    element("to").value = (until / 1000).toFixed(2);
    // Out of sight rather than hidden: the drawing in it measures its width when it is loaded.
    element("flame").classList.toggle("away", Boolean(interval));
    element("icicle").hidden = !interval;
    element("interval-text").textContent = "whole run";
    if (interval) drawInterval();
  };
  const drawInterval = () => {
    // Each frame below the one that called it; nodes are numbers, so that no name can be taken for another's.
    const nodes = [{ name: "all", parent: -1, count: 0, own: new Map() }];
    timeline.at.forEach((at, n) => {
      if (at * STEP < interval[0] || at * STEP >= interval[1]) return;
      const count = timeline.count[n];
      let node = 0;
      nodes[0].count += count;
      for (const name of timeline.stacks[timeline.stack[n]].split(";", DEEPEST)) {
        let next = nodes[node].own.get(name);
        if (next === undefined) {
          next = nodes.length;
          nodes[node].own.set(name, next);
          nodes.push({ name, parent: node, count: 0, own: new Map() });
        }
        nodes[next].count += count;
        node = next;
      }
    });
    const total = nodes[0].count;
    const kept = nodes.map((node, id) => ({ ...node, id })).filter((node) => node.count >= total / 2000);
    const warm = (name) => {
      let hash = 0;
      for (let n = 0; n < name.length; n++) hash = (hash * 31 + name.charCodeAt(n)) % 997;
      return `hsl(${8 + (hash % 40)}, 85%, ${dark.matches && !printing ? 42 + (hash % 9) : 62 + (hash % 12)}%)`;
    };
    const leaves = new Map();
    for (const node of nodes) {
      const below = [...node.own.values()].reduce((sum, id) => sum + nodes[id].count, 0);
      if (node.parent >= 0 && node.count > below) leaves.set(node.name, (leaves.get(node.name) ?? 0) + node.count - below);
    }
    const widest = [...leaves].sort((a, b) => b[1] - a[1]).slice(0, 3).map(([name, count]) => `${name} ${(100 * count / total).toFixed(0)} %`);
    element("interval-text").textContent = total ? `${total} samples; most were in ${widest.join(", ")}` : "no samples";
    const colour = colours();
    Plotly.react(element("icicle"), [{
      type: "icicle", ids: kept.map((node) => String(node.id)), parents: kept.map((node) => node.parent < 0 ? "" : String(node.parent)),
      labels: kept.map((node) => plain(node.name)), values: kept.map((node) => node.count), branchvalues: "total", sort: false,
      marker: { colors: kept.map((node) => node.parent < 0 ? colour("--card") : warm(node.name)), line: { width: 0.5, color: colour("--back") } },
      tiling: { orientation: "v", flip: "y" }, pathbar: { visible: false }, textposition: "middle left",
      hovertemplate: "%{label}<br>%{value} samples, %{percentRoot}<extra></extra>",
    }], { height: 640, margin: { l: 4, r: 4, t: 4, b: 4 }, paper_bgcolor: "rgba(0,0,0,0)", font: { size: 11, color: "#1c2330", family: "system-ui, sans-serif" } }, config);
  };
  if (flames) {
    flames.onchange = showFlame;
    const typed = () => { setFlameInterval([1000 * element("from").value, 1000 * element("to").value]); drawSubsecond(); };
    element("from").onchange = typed;
    element("to").onchange = typed;
    element("interval-all").onclick = () => { setFlameInterval(null); drawSubsecond(); };
    element("interval-range").onclick = () => { setFlameInterval(range.map((at) => at - whole[0])); drawSubsecond(); };
    const near = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      near.disconnect();
      showFlame();
    }, { rootMargin: "600px" });
    near.observe(element("flames"));
  }

  const again = () => {
    for (const plot of drawn.keys()) if (plot.isConnected) draw(plot);
    if (timeline) drawSubsecond();
    if (interval) drawInterval();
  };
  dark.addEventListener("change", again);
  addEventListener("beforeprint", () => { printing = true; document.querySelectorAll(".plot").forEach((plot) => { if (plot.chart) draw(plot); }); });
  addEventListener("afterprint", () => { printing = false; again(); });
  document.documentElement.dataset.ready = "yes";
})().catch((problem) => {
  const note = document.createElement("p");
  note.className = "failed";
  note.textContent = `The charts cannot be drawn in this browser: ${problem}`;
  document.querySelector("main").prepend(note);
  throw problem;
});
