// The curves: one metric in one region over time, of all rows, with the cursor of the player.

class Curves {
  // `seek` is called with the number of a scored frame.
  constructor(box, legend, seek) {
    this.box = box;
    this.legend = legend;
    this.off = new Set();
    this.current = 0;
    const styles = { method: 0, other: 0 };
    // Of some metrics the reference has a number of its own, which the others should come near to.
    this.rows = [...data.rows, { name: "reference", label: "reference", kind: "reference" }];
    this.styles = new Map(
      data.rows.map((row) => [
        row.name,
        row.kind === "method" ? `s-c${styles.method++ % 8}` : `s-r${styles.other++ % 3}`,
      ]),
    );
    this.styles.set("reference", "s-own");
    // On the box, which stays: the plot in it is drawn anew, also while it is dragged.
    const sought = (event) => seek(this.nearest(event.clientX - box.getBoundingClientRect().left));
    box.addEventListener("pointerdown", (event) => {
      box.setPointerCapture(event.pointerId);
      sought(event);
    });
    box.addEventListener("pointermove", (event) => box.hasPointerCapture(event.pointerId) && sought(event));
    let width = 0;
    new ResizeObserver(() => {
      if (box.clientWidth !== width) {
        width = box.clientWidth;
        this.draw();
      }
    }).observe(box);
  }

  show(metric, region) {
    this.metric = metric;
    this.region = region;
    this.series = this.rows
      .map((row) => ({ ...row, values: data.perFrame[row.name]?.[region]?.[metric] }))
      .filter((row) => row.values?.some((value) => value !== null));
    this.values = new Map();
    this.legend.replaceChildren(
      ...this.series.map((row) => {
        const line = drawn("line", { x1: 1, x2: 27, y1: 6, y2: 6, class: `curve ${this.styles.get(row.name)}` });
        const value = element("b");
        const shown = String(!this.off.has(row.name));
        const swatch = drawn("svg", { width: 28, height: 12, "aria-hidden": "true" }, line);
        const button = element("button", { type: "button", "aria-pressed": shown }, swatch, element("span", {}, row.label), value);
        button.addEventListener("click", () => {
          if (!this.off.delete(row.name)) this.off.add(row.name);
          button.setAttribute("aria-pressed", String(!this.off.has(row.name)));
          this.draw();
        });
        this.values.set(row.name, value);
        return button;
      }),
    );
    this.draw();
  }

  draw() {
    const width = this.box.clientWidth;
    if (!this.series || !width) return;
    const height = width < 500 ? 220 : 280;
    const edge = { left: 58, right: 10, top: 28, bottom: 40 };
    const seconds = data.seconds;
    const first = seconds[0];
    const last = seconds[seconds.length - 1];
    const shown = this.series.filter((row) => !this.off.has(row.name));
    const values = range(shown.flatMap((row) => row.values));
    const [low, high] = values ?? [0, 1];
    this.x = (time) => edge.left + ((width - edge.left - edge.right) * (time - first)) / (last - first || 1);
    this.y = (value) => height - edge.bottom - ((height - edge.top - edge.bottom) * (value - low)) / (high - low);
    const svg = drawn("svg", { width, height, role: "img", "aria-label": `${measureText(this.metric)} over time` });
    for (const tick of values ? ticks(low, high, 5) : []) {
      const y = this.y(tick);
      svg.append(drawn("line", { x1: edge.left, x2: width - edge.right, y1: y, y2: y, class: "grid" }));
      svg.append(drawn("text", { x: edge.left - 8, y: y + 4, "text-anchor": "end" }, tickText(tick)));
    }
    for (const tick of last > first ? ticks(first, last, width / 110) : [first]) {
      const x = this.x(tick);
      svg.append(drawn("line", { x1: x, x2: x, y1: height - edge.bottom, y2: height - edge.bottom + 5, class: "grid" }));
      svg.append(drawn("text", { x, y: height - edge.bottom + 18, "text-anchor": "middle" }, tickText(tick)));
    }
    const middle = (edge.left + width - edge.right) / 2;
    svg.append(drawn("text", { x: middle, y: height - 4, "text-anchor": "middle" }, "seconds"));
    svg.append(drawn("text", { x: 0, y: 14, class: "title" }, measureText(this.metric)));
    if (!values) svg.append(drawn("text", { x: middle, y: height / 2, "text-anchor": "middle" }, "no row has a number here"));
    // Methods lie over baselines.
    for (const row of [...shown].reverse()) {
      svg.append(drawn("path", { d: this.path(row.values, width), class: `curve ${this.styles.get(row.name)}`, "data-row": row.name }));
    }
    svg.classList.toggle("dense", seconds.length > 2 * width);
    this.line = drawn("line", { y1: edge.top - 6, y2: height - edge.bottom, class: "cursor", id: "cursor" });
    this.dots = shown.map((row) => [row, drawn("circle", { r: 4, class: `dot ${this.styles.get(row.name)}` })]);
    svg.append(this.line, ...this.dots.map(([, dot]) => dot));
    this.box.replaceChildren(svg);
    this.move(this.current);
  }

  // A path with a gap wherever a value is null. Where frames are closer than pixels, each pixel gets its extremes.
  path(values, width) {
    const parts = [];
    let open = false;
    let column = null;
    const put = (n) => {
      const point = `${this.x(data.seconds[n]).toFixed(1)} ${this.y(values[n]).toFixed(1)}`;
      parts.push(open ? `L${point}` : `M${point}h0`);
      open = true;
    };
    const flush = () => {
      if (column) [column.low, column.high].sort((a, b) => a - b).forEach((n, k, both) => (k && n === both[0]) || put(n));
      column = null;
    };
    const dense = values.length > 2 * width;
    values.forEach((value, n) => {
      if (value === null) {
        flush();
        open = false;
      } else if (!dense) {
        put(n);
      } else {
        const pixel = Math.round(this.x(data.seconds[n]));
        if (!column || column.pixel !== pixel) {
          flush();
          column = { pixel, low: n, high: n };
        }
        if (value < values[column.low]) column.low = n;
        if (value > values[column.high]) column.high = n;
      }
    });
    flush();
    return parts.join("");
  }

  // The scored frame that lies nearest to `x`, in pixels of the plot.
  nearest(x) {
    let best = 0;
    data.seconds.forEach((time, n) => {
      if (Math.abs(this.x(time) - x) < Math.abs(this.x(data.seconds[best]) - x)) best = n;
    });
    return best;
  }

  // Moves the cursor to a scored frame.
  move(current) {
    this.current = current;
    if (!this.line) return;
    const x = this.x(data.seconds[current]);
    this.line.setAttribute("x1", x);
    this.line.setAttribute("x2", x);
    for (const [row, dot] of this.dots) {
      const value = row.values[current];
      dot.setAttribute("visibility", value === null ? "hidden" : "visible");
      if (value !== null) {
        dot.setAttribute("cx", x);
        dot.setAttribute("cy", this.y(value));
      }
    }
    for (const row of this.series) this.values.get(row.name).textContent = asText(row.values[current]);
  }
}
