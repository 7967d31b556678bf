// Lines over time, drawn as SVG: gaps stay gaps. Beside each plot stand its figures, and all of them as a table.
import { h, seconds } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 176;
const LEFT = 58;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 24;
const TICKS_MIN = [5, 10, 15, 30, 60, 120, 180, 240, 360, 720, 1440, 2880];
const KINDS = ["one", "two", "three"];
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

export const amount = (value) => (value === 0 || value >= 10 ? compact.format(value) : String(Number(value.toPrecision(2))));

function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// series: [name, (step) => value or null]. say: a value in words. log: decades on the scale, for times. whole: numbers.
// Returns its element, and `show`, which draws a history, as GET /admin/history tells it.
export function plot(title, { series, say = amount, log = false, whole = false, note = "" }) {
  const id = `plot-${title.toLowerCase().replace(/\W+/g, "-")}`;
  const legend = h("p", { class: "legend" });
  const drawing = h("div", { class: "drawing" });
  const numbers = h("div");
  const details = h("details", { ontoggle: () => tell() }, h("summary", {}, "As a table", h("span", { class: "unseen" }, `: ${title}`)), numbers);
  const element = h("figure", { class: "plot", "aria-labelledby": id },
    h("figcaption", { id }, title, note ? h("span", { class: "faint small" }, ` ${note}`) : null), legend, drawing, details);
  let past = null;

  function show(history) {
    past = history && { ...history, from: history.to - history.hours * 3600e3, steps: history.steps.map((step) => ({
      at: Date.parse(step.at), values: series.map(([, of]) => of(step) ?? null) })) };
    draw();
    tell();
  }

  function draw() {
    const width = drawing.clientWidth;
    if (!past || !width) return;
    if (!past.steps.some((step) => step.values.some((value) => value !== null))) {
      drawing.replaceChildren(h("p", { class: "faint small" }, "Nothing is recorded of this time."));
      legend.replaceChildren();
      return;
    }
    const y = log ? decades(past) : linear(past, whole ? 1 : 0);
    const x = (at) => LEFT + ((at - past.from) / (past.to - past.from)) * (width - LEFT - RIGHT);
    const cross = s("line", { class: "cross", y1: TOP, y2: HEIGHT - BOTTOM, x1: -1, x2: -1 });
    const picture = s("svg", { width, height: HEIGHT, role: "img", "aria-label": inWords(), viewBox: `0 0 ${width} ${HEIGHT}` },
      ...y.ticks.flatMap((value) => [
        s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y.at(value), y2: y.at(value) }),
        s("text", { x: LEFT - 8, y: y.at(value) + 4, "text-anchor": "end" }, say(value))]),
      ...times(width).map(([at, label]) => s("text", { x: x(at), y: HEIGHT - 6, "text-anchor": "middle" }, label)),
      ...series.flatMap((_, n) => line(n, x, y)), cross);
    picture.addEventListener("pointermove", (event) => {
      const at = event.clientX - picture.getBoundingClientRect().left;
      const near = past.steps.reduce((best, step) => (Math.abs(x(step.at) - at) < Math.abs(x(best.at) - at) ? step : best));
      for (const end of ["x1", "x2"]) cross.setAttribute(end, x(near.at));
      name(near);
    });
    picture.addEventListener("pointerleave", () => {
      for (const end of ["x1", "x2"]) cross.setAttribute(end, -1);
      name(past.steps.at(-1));
    });
    drawing.replaceChildren(picture);
    name(past.steps.at(-1));
  }

  function line(n, x, y) {
    const shapes = [];
    let run = [];
    const end = () => {
      if (run.length === 1) shapes.push(s("circle", { class: `dot ${KINDS[n]}`, cx: run[0][0], cy: run[0][1], r: 2 }));
      else if (run.length) {
        const points = run.map(([left, top]) => `${left},${top}`).join(" L");
        if (series.length === 1) {
          const floor = HEIGHT - BOTTOM;
          shapes.push(s("path", { class: "area", d: `M${run[0][0]},${floor} L${points} L${run.at(-1)[0]},${floor} Z` }));
        }
        shapes.push(s("path", { class: `line ${KINDS[n]}`, d: `M${points}` }));
      }
      run = [];
    };
    let before = null;
    for (const step of past.steps) {
      const value = step.values[n];
      if (value === null || (before !== null && step.at - before > past.step_s * 1500)) end();
      if (value !== null) run.push([x(step.at).toFixed(1), y.at(value).toFixed(1)]);
      before = step.at;
    }
    end();
    return shapes;
  }

  function name(step) {
    legend.replaceChildren(
      ...series.map(([label], n) => h("span", {},
        series.length > 1 ? s("svg", { width: 22, height: 8, "aria-hidden": "true" }, s("line", { class: `line ${KINDS[n]}`, x1: 0, x2: 22, y1: 4, y2: 4 })) : "",
        series.length > 1 ? `${label} ` : "", h("b", {}, step.values[n] === null ? "–" : say(step.values[n])))),
      h("span", { class: "faint" }, clock(step.at)));
  }

  function clock(at) {
    return new Date(at).toLocaleString([], past.hours > 24 ? { weekday: "short", hour: "2-digit", minute: "2-digit" } : { hour: "2-digit", minute: "2-digit" });
  }

  function times(width) {
    const wanted = (past.hours * 60) / Math.max(2, Math.floor((width - LEFT - RIGHT) / 76));
    const every = (TICKS_MIN.find((minutes) => minutes >= wanted) ?? TICKS_MIN.at(-1)) * 60e3;
    const shift = new Date(past.to).getTimezoneOffset() * 60e3;
    const found = [];
    for (let at = Math.ceil((past.from - shift) / every) * every + shift; at <= past.to; at += every) {
      const left = ((at - past.from) / (past.to - past.from)) * (width - LEFT - RIGHT);
      if (left < 14 || left > width - LEFT - RIGHT - 14) continue; // half of it would lie outside
      found.push([at, new Date(at).toLocaleString([], every >= 1440 * 60e3 ? { weekday: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit" })]);
    }
    return found;
  }

  function inWords() {
    const told = series.map(([label], n) => {
      const values = past.steps.map((step) => step.values[n]).filter((value) => value !== null);
      return values.length ? `${label}: ${say(Math.min(...values))} to ${say(Math.max(...values))}, last ${say(values.at(-1))}` : `${label}: nothing`;
    });
    return `${title}, over ${seconds(past.hours * 3600)}. ${told.join(". ")}.`;
  }

  // Not before somebody wants it: a week has 240 lines.
  function tell() {
    if (!details.open || !past) return;
    numbers.replaceChildren(h("div", { class: "scroll figures", tabindex: "0", role: "region", "aria-label": title }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Time"), series.map(([label]) => h("th", { scope: "col", class: "number" }, label)))),
      h("tbody", {}, [...past.steps].reverse().map((step) => h("tr", {}, h("th", { scope: "row" }, clock(step.at)),
        step.values.map((value) => h("td", { class: "number" }, value === null ? "–" : say(value)))))))));
  }

  new ResizeObserver(draw).observe(drawing);
  return { element, show };
}

function scale(low, high, of) {
  const bottom = HEIGHT - BOTTOM;
  return (value) => bottom - ((of(value) - of(low)) / (of(high) - of(low))) * (bottom - TOP);
}

function linear(past, least) {
  const most = Math.max(...past.steps.flatMap((step) => step.values.map((value) => value ?? 0)), 1e-9);
  const power = 10 ** Math.floor(Math.log10(most / 3));
  const step = Math.max(least, [1, 2, 5, 10].map((times) => times * power).find((each) => most / each <= 4));
  const high = Math.max(step, Math.ceil(most / step) * step);
  const ticks = [];
  for (let n = 0; n * step <= high * 1.001; n += 1) ticks.push(n * step);
  return { at: scale(0, high, (value) => value), ticks };
}

function decades(past) {
  const values = past.steps.flatMap((step) => step.values).filter((value) => value !== null);
  const low = Math.max(-3, Math.floor(Math.log10(Math.max(1e-3, Math.min(...values)))));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values, 1e-3))));
  const ticks = [];
  for (let n = low; n <= high; n += 1) ticks.push(10 ** n);
  return { at: scale(10 ** low, 10 ** high, (value) => Math.log10(Math.max(value, 10 ** low))), ticks };
}
