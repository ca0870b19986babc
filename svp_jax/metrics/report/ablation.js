// Heat maps of scores over two settings, and the trade-off between two metrics with its Pareto front.

// Darker = higher, in both colour schemes: a lightness between these two, of one hue.
const PALE = [240, 246, 252];
const DEEP = [8, 48, 107];
const SCATTER_HEIGHT = 320;

function shade(share) {
  const mixed = PALE.map((pale, k) => Math.round(pale + (DEEP[k] - pale) * share));
  return { ground: `rgb(${mixed.join(",")})`, ink: share > 0.45 ? "#ffffff" : "#10151c" };
}

const settingsText = (settings) => Object.entries(settings).map(([name, value]) => `${name} = ${value}`).join(", ");

// Whether the first of two numbers is the better one.
function isBetter(metric, value, than) {
  const better = data.measures[metric].better;
  return better === "higher" ? value > than : better === "lower" && value < than;
}

function startHeatMap(axes, metrics, points) {
  const names = Object.keys(axes);
  const chosen = points.find((point) => point.best)?.settings ?? {};
  byId("heat").hidden = false;
  const metric = choice("heat-metric", "Metric", Object.keys(metrics).map((each) => [each, data.measures[each].label]), draw);
  const across = choice("heat-x", "Across", names.map((name) => [name, name]), draw);
  const down = choice("heat-y", "Down", names.map((name) => [name, name]), draw);
  // The axes that are not shown stand still at the best setting, or at their first value.
  const still = new Map(
    names.map((name) => {
      const made = choice(`heat-at-${names.indexOf(name)}`, name, axes[name].map((value, n) => [n, String(value)]), draw);
      made.select.value = Math.max(axes[name].indexOf(chosen[name]), 0);
      return [name, made];
    }),
  );
  byId("heat-choices").append(metric.box, across.box, down.box, ...[...still.values()].map((each) => each.box));
  // The longest two axes say most.
  const long = [...names].sort((a, b) => axes[b].length - axes[a].length);
  across.select.value = long[0];
  down.select.value = long[1] ?? long[0];
  down.box.hidden = names.length < 2;
  draw();

  function draw() {
    const key = metric.select.value;
    const x = across.select.value;
    if (down.select.value === x && names.length > 1) down.select.value = names.find((name) => name !== x);
    const y = down.select.value;
    for (const [name, each] of still) each.box.hidden = name === x || name === y;
    const at = (column, row) =>
      names.reduce((values, name) => values?.[name === x ? column : name === y ? row : +still.get(name).select.value], metrics[key]) ?? null;
    const rows = x === y ? [null] : axes[y];
    const cells = rows.map((_, row) => axes[x].map((_, column) => at(column, row)));
    const known = cells.flat().filter((value) => value !== null);
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const best = known.reduce((found, value) => (found === null || isBetter(key, value, found) ? value : found), null);
    const head = element("tr", {}, element("td", { class: "axis" }, x === y ? x : `${y} ↓  ${x} →`));
    head.append(...axes[x].map((value) => element("th", { scope: "col" }, String(value))));
    const lines = rows.map((value, row) => {
      const line = element("tr", {}, element("th", { scope: "row" }, value === null ? "" : String(value)));
      axes[x].forEach((other, column) => {
        const score = cells[row][column];
        const settings = { ...Object.fromEntries(names.map((name) => [name, axes[name][+still.get(name).select.value]])), [x]: other };
        if (x !== y) settings[y] = value;
        const star = score !== null && score === best && data.measures[key].better !== "none" ? " ★" : "";
        const cell = element("td", { title: `${settingsText(settings)}: ${score}` }, asText(score) + star);
        const { ground, ink } = shade(score === null || high === low ? 0 : (score - low) / (high - low));
        cell.style.background = score === null ? "none" : ground;
        cell.style.color = score === null ? "" : ink;
        if (Object.keys(chosen).length && names.every((name) => settings[name] === chosen[name])) cell.className = "chosen";
        line.append(cell);
      });
      return line;
    });
    byId("heat-map").replaceChildren(element("thead", {}, head), element("tbody", {}, ...lines));
    byId("heat-note").textContent =
      `${measureText(key)}. Darker is higher; ★ the best here` + (Object.keys(chosen).length ? "; framed: the best setting of all." : ".");
  }
}

function startScatter(points) {
  const metrics = [...new Set(points.flatMap((point) => Object.keys(point.scores)))];
  if (metrics.length < 2) return;
  byId("front").hidden = false;
  const pairs = metrics.map((metric) => [metric, data.measures[metric].label]);
  const across = choice("front-x", "Across", pairs, draw);
  const up = choice("front-y", "Up", pairs, draw);
  byId("front-choices").append(across.box, up.box);
  across.select.value = metrics.includes("smoothness") ? "smoothness" : metrics[0];
  up.select.value = ["lpips_alex", "lpips_vgg", "psnr", ...metrics].find((name) => metrics.includes(name) && name !== across.select.value);
  let width = 0;
  new ResizeObserver(() => {
    if (byId("scatter").clientWidth !== width) {
      width = byId("scatter").clientWidth;
      draw();
    }
  }).observe(byId("scatter"));
  const front = points.filter((point) => point.on_front);
  byId("front").querySelector(".scroll").hidden = !front.length;
  const heads = [...Object.keys(points[0].settings), ...metrics.map((metric) => data.measures[metric].label)];
  byId("front-table").replaceChildren(
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...front.map((point) => {
      const cells = [...Object.values(point.settings).map(String), ...metrics.map((metric) => asText(point.scores[metric]))];
      return element("tr", {}, ...cells.map((cell, n) => element("td", {}, cell + (n === 0 && point.best ? " ★" : ""))));
    })),
  );
  draw();

  function draw() {
    if (!width) return;
    const [x, y] = [across.select.value, up.select.value];
    const known = points.filter((point) => point.scores[x] != null && point.scores[y] != null);
    const svg = drawn("svg", { width, height: SCATTER_HEIGHT, role: "img", "aria-label": `${measureText(y)} against ${measureText(x)}` });
    byId("scatter").replaceChildren(svg);
    byId("front-note").textContent = "Filled: no other setting is better in both; ★ the best. Point at or tap one for its settings.";
    if (!known.length) return;
    const edge = { left: 58, right: 16, top: 28, bottom: 44 };
    const [left, right] = range(known.map((point) => point.scores[x]));
    const [low, high] = range(known.map((point) => point.scores[y]));
    const atX = (value) => edge.left + ((width - edge.left - edge.right) * (value - left)) / (right - left);
    const atY = (value) => SCATTER_HEIGHT - edge.bottom - ((SCATTER_HEIGHT - edge.top - edge.bottom) * (value - low)) / (high - low);
    for (const tick of ticks(low, high, 5)) {
      svg.append(drawn("line", { x1: edge.left, x2: width - edge.right, y1: atY(tick), y2: atY(tick), class: "grid" }));
      svg.append(drawn("text", { x: edge.left - 8, y: atY(tick) + 4, "text-anchor": "end" }, tickText(tick)));
    }
    for (const tick of ticks(left, right, width / 70)) {
      svg.append(drawn("line", { x1: atX(tick), x2: atX(tick), y1: edge.top, y2: SCATTER_HEIGHT - edge.bottom, class: "grid" }));
      svg.append(drawn("text", { x: atX(tick), y: SCATTER_HEIGHT - edge.bottom + 18, "text-anchor": "middle" }, tickText(tick)));
    }
    svg.append(drawn("text", { x: 0, y: 14, class: "title" }, measureText(y)));
    svg.append(drawn("text", { x: width - edge.right, y: SCATTER_HEIGHT - 6, "text-anchor": "end", class: "title" }, measureText(x)));
    const line = known.filter((point) => point.on_front).sort((a, b) => a.scores[x] - b.scores[x]);
    const corners = line.map((point) => `${atX(point.scores[x])},${atY(point.scores[y])}`);
    svg.append(drawn("polyline", { points: corners.join(" "), class: "front-line" }));
    for (const point of known) {
      const text = `${settingsText(point.settings)}: ${[x, y].map((key) => `${data.measures[key].label} ${asText(point.scores[key])}`).join(", ")}`;
      const place = { cx: atX(point.scores[x]), cy: atY(point.scores[y]), r: point.on_front ? 6 : 5 };
      const dot = drawn("circle", { ...place, class: `point${point.on_front ? " front" : ""}${point.best ? " chosen" : ""}` }, drawn("title", {}, text));
      for (const event of ["pointerenter", "click"]) dot.addEventListener(event, () => (byId("front-note").textContent = text));
      svg.append(dot);
      if (point.best) svg.append(drawn("text", { x: place.cx + 10, y: place.cy - 8, class: "title" }, "★"));
    }
  }
}

function startAblation() {
  const { axes = {}, metrics = {}, points = [] } = data.ablation;
  byId("ablation").hidden = false;
  if (Object.keys(axes).length && Object.keys(metrics).length) startHeatMap(axes, metrics, points);
  if (points.length) startScatter(points);
}
