"use strict";
// What all parts of the page share: its data, elements, numbers as text, axes.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function fillSelect(select, pairs) {
  select.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
}

// A label and a select of [value, text] pairs; `changed` is called with no argument.
function choice(id, label, pairs, changed) {
  const select = element("select", { id });
  fillSelect(select, pairs);
  select.addEventListener("change", changed);
  return { select, box: element("span", {}, element("label", { for: id }, label), select) };
}

function asText(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size < 1e-4 || size >= 1e6 ? value.toExponential(2) : size < 1000 ? value.toPrecision(4) : value.toFixed(0);
  return text.replace(/-/g, "−");
}

// Of a round number: no zeros at its end.
const tickText = (value) => String(Math.abs(value) < 1e-6 ? +value.toExponential(2) : +value.toPrecision(4)).replace(/-/g, "−");

function measureText(metric) {
  const measure = data.measures[metric];
  const unit = measure.unit ? `, ${measure.unit}` : "";
  return measure.better === "none" ? measure.label + unit : `${measure.label}${unit} (${measure.advice})`;
}

// Round numbers between low and high, about `count` of them.
function ticks(low, high, count) {
  const rough = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough * 0.999);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) found.push(+(n * step).toPrecision(12));
  return found;
}

// The range of `values` with a margin; never empty.
function range(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value === null || value === undefined) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return null;
  const margin = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - margin, high + margin];
}
