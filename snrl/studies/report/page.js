"use strict";
(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";

  // ---- what is shown -------------------------------------------------------------------------
  const hash = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  const state = {
    measure: DATA.curves[hash.get("measure")] ? hash.get("measure") : DATA.first,
    task: hash.get("task") ?? "",
    algo: hash.get("algo") ?? "",
    axis: hash.get("axis") ?? "steps",
    seeds: hash.get("seeds") === "1",
    intervals: hash.get("intervals") !== "0",
    hidden: new Set((hash.get("hidden") ?? "").split(",").filter(Boolean).map(Number)),
  };
  if (!DATA.tasks.includes(state.task)) state.task = "";
  if (!DATA.algos.includes(state.algo)) state.algo = "";

  const AXES = {
    steps: { name: "environment steps", title: "environment steps" },
    log: { name: "environment steps, logarithmic", title: "environment steps", log: true },
    share: { name: "share of the budget", title: "share of the budget", share: true },
  };
  if (DATA.updates) AXES.updates = { name: "gradient steps", title: "gradient steps", updates: true };
  if (!AXES[state.axis]) state.axis = "steps";

  function remember() {
    const kept = new URLSearchParams();
    if (state.measure !== DATA.first) kept.set("measure", state.measure);
    if (state.task) kept.set("task", state.task);
    if (state.algo) kept.set("algo", state.algo);
    if (state.axis !== "steps") kept.set("axis", state.axis);
    if (state.seeds) kept.set("seeds", "1");
    if (!state.intervals) kept.set("intervals", "0");
    if (state.hidden.size) kept.set("hidden", [...state.hidden].join(","));
    history.replaceState(null, "", kept.size ? `#${kept}` : location.pathname + location.search);
  }

  // ---- looks ---------------------------------------------------------------------------------
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // Plotly reads a little HTML and TeX in its texts; names from files are neither.
  const safe = (text) => String(text).replace(/[&<>$]/g, (letter) => `&#${letter.charCodeAt(0)};`);
  const faded = (colour, alpha) => {
    const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
    return `rgba(${r},${g},${b},${alpha})`;
  };
  const shown = (v) => !state.hidden.has(v);
  const number = (value) => {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size >= 1e6 || size < 1e-3)) return value.toExponential(2);
    return value.toLocaleString("en", { maximumSignificantDigits: 4 });
  };

  function layout(extra) {
    const axis = {
      gridcolor: css("--line"), zerolinecolor: css("--line"), linecolor: css("--line"),
      automargin: true, tickfont: { size: 11 }, title: { font: { size: 12 }, standoff: 8 },
      exponentformat: "power", minexponent: 5, separatethousands: true,
    };
    const merged = (more) => ({ ...axis, ...more, title: { ...axis.title, ...(more?.title ?? {}) } });
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: css("--ink") },
      margin: { l: 58, r: 14, t: 8, b: 42 }, showlegend: false, hovermode: "closest",
      hoverlabel: { bgcolor: css("--raised"), bordercolor: css("--line"), font: { color: css("--ink") }, namelength: 40 },
      ...extra, xaxis: merged(extra.xaxis), yaxis: merged(extra.yaxis),
    };
  }
  const CONFIG = {
    responsive: true, displaylogo: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { format: "svg", filename: "snrl" },
  };

  // ---- plots are drawn when they come into view, and again when what they show has changed ------
  const plots = new Map();
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const plot = plots.get(entry.target);
      if (!plot) continue;
      plot.visible = entry.isIntersecting;
      if (plot.visible && plot.dirty) queue(plot);
    }
  }, { rootMargin: "250px" });
  const waiting = new Set();
  function queue(plot) {
    if (!waiting.size) requestAnimationFrame(work);
    waiting.add(plot);
    at("main").setAttribute("aria-busy", "true");
  }
  function work() {
    // A few at a time, so that the page answers meanwhile.
    const end = performance.now() + 40;
    for (const plot of waiting) {
      waiting.delete(plot);
      draw(plot);
      if (performance.now() > end) break;
    }
    if (waiting.size) requestAnimationFrame(work);
    else at("main").removeAttribute("aria-busy");
  }
  function draw(plot) {
    plot.dirty = false;
    if (!plot.box.isConnected) return;
    const figure = plot.figure();
    const label = plot.box.querySelector(".canvas");
    if (!figure || !figure.data.length) {
      if (plot.drawn) Plotly.purge(label);
      plot.drawn = false;
      label.replaceChildren(Object.assign(document.createElement("div"), {
        className: "empty", textContent: "nothing to show: no variant is chosen, or none holds this measure",
      }));
      return;
    }
    if (!plot.drawn) label.replaceChildren();
    plot.drawn = true;
    Plotly.react(label, figure.data, layout(figure.layout), CONFIG);
  }
  function refresh() {
    for (const plot of plots.values()) {
      plot.dirty = true;
      if (plot.visible) queue(plot);
    }
  }
  function addPlot(parent, heading, figure, height) {
    const box = document.createElement("div");
    box.className = height ? "plot tall" : "plot";
    if (height) box.style.setProperty("--height", `${height}px`);
    const title = Object.assign(document.createElement("div"), { className: "heading", textContent: heading });
    const canvas = Object.assign(document.createElement("div"), { className: "canvas" });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Plot: ${heading}`);
    box.append(title, canvas);
    parent.append(box);
    plots.set(box, { box, figure, dirty: true, visible: false, drawn: false });
    watcher.observe(box);
  }
  function clear(parent) {
    for (const box of parent.querySelectorAll(".plot")) {
      watcher.unobserve(box);
      const plot = plots.get(box);
      if (plot?.drawn) Plotly.purge(box.querySelector(".canvas"));
      plots.delete(box);
    }
    parent.replaceChildren();
  }

  // ---- figures -------------------------------------------------------------------------------
  const style = (v) => DATA.variants[v];
  const line = (v, width) => ({ color: style(v).colour, dash: style(v).dash, width });

  function abscissa(grid, cell) {
    const axis = AXES[state.axis];
    const x = DATA.grids[grid];
    if (axis.share) return x.map((step) => step / DATA.budgets[DATA.cells[cell][0]]);
    if (axis.updates) return x.map((step) => step * (DATA.updates[cell] ?? NaN));
    return x;
  }
  function band(x, curve, v, extra = {}) {
    const edge = { mode: "lines", line: { width: 0 }, hoverinfo: "skip", type: "scatter", ...extra };
    return [
      { ...edge, x, y: curve.lo },
      { ...edge, x, y: curve.hi, fill: "tonexty", fillcolor: faded(style(v).colour, 0.2) },
    ];
  }
  function curves(measure, task, algo) {
    const info = DATA.measures[measure];
    const bands = [], seeds = [], lines = [];
    for (const curve of DATA.curves[measure]) {
      const [t, a, v] = DATA.cells[curve.c];
      if (t !== task || a !== algo || !shown(v)) continue;
      const x = abscissa(curve.x, curve.c);
      if (state.intervals && curve.lo) bands.push(...band(x, curve, v));
      lines.push({
        type: "scatter", mode: x.length === 1 ? "markers" : "lines", x, y: curve.y,
        line: line(v, 2.2), marker: { color: style(v).colour, size: 7 }, name: safe(style(v).name),
        customdata: x.map((_, i) => (curve.lo ? `${number(curve.lo[i])} to ${number(curve.hi[i])}, ` : "") + `${curve.n} seeds`),
        hovertemplate: "%{y:.4~g} at %{x:,.4~g}<br>%{customdata}",
      });
    }
    if (state.seeds) {
      const joined = new Map();
      for (const seed of DATA.seeds[measure]) {
        const [t, a, v] = DATA.cells[seed.c];
        if (t !== task || a !== algo || !shown(v)) continue;
        // One line per variant with gaps: many times faster than one per seed.
        if (!joined.has(v)) joined.set(v, { x: [], y: [], text: [] });
        const all = joined.get(v), x = abscissa(seed.x, seed.c);
        all.x.push(...x, null);
        all.y.push(...seed.y, null);
        all.text.push(...x.map(() => `seed ${seed.s}`), "");
      }
      for (const [v, all] of joined) {
        seeds.push({
          type: "scatter", mode: "lines", x: all.x, y: all.y, text: all.text.map(safe), connectgaps: false,
          line: { color: style(v).colour, width: 0.8 }, opacity: 0.55, name: safe(style(v).name),
          hovertemplate: "%{text}: %{y:.4~g}",
        });
      }
    }
    const axis = AXES[state.axis];
    const shapes = info.ideal === null ? [] : [{
      type: "line", xref: "paper", x0: 0, x1: 1, y0: info.ideal, y1: info.ideal,
      line: { color: css("--soft"), width: 1, dash: "dot" }, layer: "below",
    }];
    return {
      data: [...bands, ...seeds, ...lines],
      layout: {
        shapes,
        xaxis: { title: { text: axis.title }, type: axis.log ? "log" : "linear", tickformat: axis.share ? ".0%" : "~s" },
        yaxis: { title: { text: info.label }, type: info.log ? "log" : "linear", tickformat: info.log ? "~g" : undefined },
      },
    };
  }
  const heading = (task, algo) => [DATA.tasks[task], DATA.algos[algo]].filter(Boolean).join(" · ");

  function facets(parent, measure, figure) {
    clear(parent);
    const held = new Set(DATA.curves[measure].map((curve) => DATA.cells[curve.c].slice(0, 2).join()));
    DATA.tasks.forEach((name, t) => DATA.algos.forEach((algo, a) => {
      if ((state.task && name !== state.task) || (state.algo && algo !== state.algo)) return;
      if (held.has(`${t},${a}`)) addPlot(parent, heading(t, a), () => figure(measure, t, a));
    }));
    parent.classList.toggle("one", parent.childElementCount === 1);
  }

  function rows(kept, extra) {
    // Horizontal intervals, a variant a line; the first variant on top.
    const names = kept.map((row) => safe(style(row.v).name));
    return {
      data: kept.map((row, i) => ({
        type: "scatter", mode: "markers", x: [row.y], y: [names[i]], name: names[i], cliponaxis: false,
        marker: { color: style(row.v).colour, size: 9 },
        error_x: row.lo === null ? undefined : {
          type: "data", symmetric: false, array: [row.hi - row.y], arrayminus: [row.y - row.lo],
          color: style(row.v).colour, thickness: 2, width: 5,
        },
        hovertemplate: `%{x:.4~g}<br>${row.lo === null ? "no interval" : `${number(row.lo)} to ${number(row.hi)}`}`,
      })),
      layout: {
        margin: { l: 20, r: 18, t: 8, b: 42 },
        shapes: extra.ideal === undefined ? [] : [{
          type: "line", yref: "paper", y0: 0, y1: 1, x0: extra.ideal, x1: extra.ideal,
          line: { color: css("--soft"), width: 1, dash: "dot" }, layer: "below",
        }],
        xaxis: { title: { text: safe(extra.label) }, range: extra.range },
        yaxis: { autorange: "reversed", type: "category", categoryorder: "array", categoryarray: names },
      },
    };
  }
  function along(kept, extra) {
    const data = [];
    for (const curve of kept) if (state.intervals && curve.lo) data.push(...band(curve.x, curve, curve.v));
    for (const curve of kept) {
      data.push({
        type: "scatter", mode: "lines", x: curve.x, y: curve.y, line: line(curve.v, 2.2),
        name: safe(style(curve.v).name), hovertemplate: "%{y:.3~g} at %{x:.4~g}",
      });
    }
    return { data, layout: { xaxis: { title: { text: extra.x }, tickformat: extra.format }, yaxis: { title: { text: extra.label }, range: extra.range } } };
  }
  function paired(measure, task, algo) {
    const kept = (DATA.paired[measure] ?? []).filter((p) => p.t === task && p.a === algo && shown(p.v));
    const data = [];
    kept.forEach((pair) => {
      const name = safe(style(pair.v).name);
      data.push({
        type: "scatter", mode: "markers", x: pair.d, y: pair.d.map(() => name), cliponaxis: false, text: pair.s.map((s) => safe(`seed ${s}`)),
        marker: { color: faded(style(pair.v).colour, 0.55), size: 8, symbol: "circle-open", line: { width: 1.5 } },
        name, hovertemplate: "%{text}: %{x:.4~g}",
      }, {
        type: "scatter", mode: "markers", x: [pair.y], y: [name], name,
        marker: { color: style(pair.v).colour, size: 10, symbol: "diamond" },
        error_x: pair.lo === null ? undefined : {
          type: "data", symmetric: false, array: [pair.hi - pair.y], arrayminus: [pair.y - pair.lo],
          color: style(pair.v).colour, thickness: 3, width: 7,
        },
        hovertemplate: `mean %{x:.4~g}<br>${number(pair.lo)} to ${number(pair.hi)}`,
      });
    });
    return {
      data,
      layout: {
        margin: { l: 20, r: 18, t: 8, b: 42 },
        shapes: [{ type: "line", yref: "paper", y0: 0, y1: 1, x0: 0, x1: 0, line: { color: css("--soft"), width: 1, dash: "dot" }, layer: "below" }],
        xaxis: { title: { text: safe(kept[0]?.label ?? "") } },
        yaxis: { autorange: "reversed", type: "category" },
      },
    };
  }

  function group(parent, title, text, fill) {
    const head = Object.assign(document.createElement("h3"), { textContent: title });
    const note = Object.assign(document.createElement("p"), { className: "note", textContent: text });
    const grid = Object.assign(document.createElement("div"), { className: "grid" });
    fill(grid);
    grid.classList.toggle("one", grid.childElementCount === 1);
    if (grid.childElementCount) parent.append(head, note, grid);
  }
  function scores() {
    const parent = at("score-plots");
    clear(parent);
    const height = 90 + 34 * DATA.variants.length;
    for (const summary of DATA.summaries) {
      group(parent, summary.title, summary.text, (grid) => {
        for (const part of summary.parts) {
          if (state.algo && part.algo !== state.algo) continue;
          if (state.task && part.task && part.task !== state.task) continue;
          const name = [part.task, part.algo].filter(Boolean).join(" · ");
          const kept = () => part.rows.filter((row) => shown(row.v));
          const figure = summary.kind === "rows" ? () => rows(kept(), summary) : () => along(kept(), summary);
          addPlot(grid, name, figure, summary.kind === "rows" ? height : 0);
        }
      });
    }
    if (!Object.keys(DATA.paired).length) return;
    for (const measure of Object.keys(DATA.paired)) {
      group(parent, `Paired differences by seed: ${DATA.measures[measure].title}`,
        `Each ring is one seed: its run minus that of ${DATA.baseline} with the same seed, at the end of training; the diamond is their mean with its 95% interval.`,
        (grid) => DATA.tasks.forEach((task, t) => DATA.algos.forEach((algo, a) => {
          if ((state.task && task !== state.task) || (state.algo && algo !== state.algo)) return;
          if (DATA.paired[measure].some((p) => p.t === t && p.a === a)) {
            addPlot(grid, heading(t, a), () => paired(measure, t, a), height);
          }
        })));
    }
  }

  function explore() {
    const info = DATA.measures[state.measure];
    at("measure-text").textContent = info ? info.text : "";
    if (info) facets(at("explore-plots"), state.measure, curves);
  }
  function all() {
    explore();
    for (const grid of document.querySelectorAll("[data-panel]")) {
      facets(grid, DATA.panels[Number(grid.dataset.panel)], curves);
    }
    scores();
  }

  // ---- controls ------------------------------------------------------------------------------
  function choices(select, values, chosen) {
    for (const [value, text] of values) select.add(new Option(text, value, false, value === chosen));
  }
  function controls() {
    choices(at("task"), [["", "all"], ...DATA.tasks.map((name) => [name, name])], state.task);
    choices(at("algo"), [["", "all"], ...DATA.algos.map((name) => [name, name])], state.algo);
    choices(at("axis"), Object.entries(AXES).map(([key, axis]) => [key, axis.name]), state.axis);
    const grouped = new Map();
    for (const [key, info] of Object.entries(DATA.measures)) {
      if (!grouped.has(info.section)) grouped.set(info.section, []);
      grouped.get(info.section).push([key, `${info.title} (${key})`]);
    }
    for (const [section, entries] of grouped) {
      const group = Object.assign(document.createElement("optgroup"), { label: section });
      for (const [value, text] of entries) group.append(new Option(text, value, false, value === state.measure));
      at("measure").append(group);
    }
    at("seeds").checked = state.seeds;
    at("intervals").checked = state.intervals;
    const on = (id, change) => at(id).addEventListener("change", (event) => { change(event.target); remember(); });
    on("measure", (select) => { state.measure = select.value; explore(); });
    on("task", (select) => { state.task = select.value; all(); });
    on("algo", (select) => { state.algo = select.value; all(); });
    on("axis", (select) => { state.axis = select.value; refresh(); });
    on("seeds", (box) => { state.seeds = box.checked; refresh(); });
    on("intervals", (box) => { state.intervals = box.checked; refresh(); });
    DATA.variants.forEach((variant, v) => {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.className = "chip";
      chip.title = "Show or hide; with Shift, show it alone";
      chip.append(swatch(variant), Object.assign(document.createElement("span"), { textContent: variant.name }));
      chip.addEventListener("click", (event) => {
        if (event.shiftKey) {
          const alone = shown(v) && state.hidden.size === DATA.variants.length - 1;
          state.hidden = new Set(alone ? [] : DATA.variants.map((_, i) => i).filter((i) => i !== v));
        } else if (!state.hidden.delete(v)) state.hidden.add(v);
        press();
        refresh();
        remember();
      });
      at("chips").append(chip);
    });
    press();
    at("theme").addEventListener("click", () => {
      theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
      refresh();
    });
    // Enter in a control must not reload the page.
    at("controls").addEventListener("submit", (event) => event.preventDefault());
    at("controls").hidden = false;
  }
  function press() {
    [...at("chips").children].forEach((chip, v) => chip.setAttribute("aria-pressed", String(shown(v))));
  }
  function swatch(variant) {
    const dashes = { solid: "", dash: "6 3", dot: "2 3", dashdot: "6 3 2 3" };
    const svg = document.createElementNS(SVG, "svg"), stroke = document.createElementNS(SVG, "line");
    for (const [key, value] of Object.entries({ width: 22, height: 8, "aria-hidden": "true" })) svg.setAttribute(key, value);
    const drawn = { x1: 0, x2: 22, y1: 4, y2: 4, stroke: variant.colour, "stroke-width": 3, "stroke-dasharray": dashes[variant.dash] };
    for (const [key, value] of Object.entries(drawn)) stroke.setAttribute(key, value);
    svg.append(stroke);
    return svg;
  }
  function theme(name) {
    document.documentElement.dataset.theme = name;
  }

  // ---- the table of runs ---------------------------------------------------------------------
  function table() {
    const body = at("run-table").tBodies[0], every = [...body.rows];
    const count = () => {
      const left = every.filter((row) => !row.hidden).length;
      at("count").textContent = left === every.length ? `${left} runs` : `${left} of ${every.length} runs`;
    };
    at("filter").addEventListener("input", (event) => {
      const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of every) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      count();
    });
    const compare = new Intl.Collator("en", { numeric: true }).compare;
    const value = (row, i) => row.cells[i].textContent;
    const isNumber = (text) => text !== "" && !Number.isNaN(Number(text.replaceAll(",", "").replace("−", "-")));
    const heads = [...at("run-table").tHead.rows[0].cells];
    heads.forEach((head, i) => head.firstChild.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const toNumber = (text) => Number(text.replaceAll(",", "").replace("−", "-"));
      const sorted = [...every].sort((one, two) => {
        const [a, b] = [value(one, i), value(two, i)];
        return isNumber(a) && isNumber(b) ? toNumber(a) - toNumber(b) : compare(a, b);
      });
      body.append(...(down ? sorted.reverse() : sorted));
    }));
    count();
  }

  const prefers = matchMedia("(prefers-color-scheme: dark)");
  theme(prefers.matches ? "dark" : "light");
  prefers.addEventListener("change", () => { theme(prefers.matches ? "dark" : "light"); refresh(); });
  controls();
  all();
  table();
})();
