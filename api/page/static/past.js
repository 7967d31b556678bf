// What the listener recorded, minute by minute: plots that are drawn anew each minute, while somebody sees them.
import { ask, part } from "./ask.js";
import { h, seconds } from "./dom.js";
import { plot } from "./plot.js";

const LOOK_MS = 60000;
const RANGES = [[1, "hour"], [6, "6 hours"], [24, "day"], [168, "week"]];

const age = (value) => (value ? seconds(value) : "0");

const WAITS = ["Waiting", { series: [["items", (step) => step.waiting]], whole: true, note: "items" }];
const AGE = ["Oldest change", { series: [["age", (step) => step.oldest_s]], say: age, note: "not in Qdrant yet" }];

export function pastOfAll() {
  const lane = (name, what) => (step) => step.lanes?.[name]?.[what];
  return past(null, 6, [
    ["Commit → searchable", { series: [["p50", lane("live", "p50_s")], ["p99", lane("live", "p99_s")]], say: seconds, log: true, note: "of edits" }],
    ["Items per second", { series: [["live", lane("live", "items_per_s")], ["bulk", lane("bulk", "items_per_s")]] }],
    WAITS, AGE,
  ]);
}

export function pastOf(source) {
  return past(source, 24, [
    WAITS, AGE,
    ["Texts embedded per second", { series: [["texts", (step) => step.embedded?.texts_per_s]] }],
    ["Failed", { series: [["items", (step) => step.failed]], whole: true, note: "items" }],
  ]);
}

// Returns an element, and what ends the drawing.
function past(source, hours, wanted) {
  const charts = wanted.map(([title, options]) => plot(title, options));
  const wrong = h("p", { class: "faint small", hidden: true });
  const choice = h("select", { id: "range", onchange: () => look() },
    RANGES.map(([value, text]) => h("option", { value, selected: value === hours }, text)));
  const element = h("section", { "aria-labelledby": "past" },
    h("div", { class: "heading" }, h("h2", { id: "past" }, "Past"),
      h("div", { class: "range" }, h("label", { for: "range" }, "The last"), choice)),
    wrong, h("div", { class: "plots" }, charts.map((each) => each.element)));
  let gone = false;
  let timer = null;

  async function look() {
    clearTimeout(timer);
    const asked = choice.value;
    if (!document.hidden) {
      try {
        const told = await ask("GET", `admin/history?hours=${asked}${source === null ? "" : `&source=${part(source)}`}`);
        if (gone || asked !== choice.value) return;
        for (const each of charts) each.show({ ...told, to: Date.now() });
        wrong.hidden = true;
      } catch (error) {
        wrong.textContent = `The past can't be told: ${error.message}`;
        wrong.hidden = false;
      }
    }
    if (!gone) timer = setTimeout(look, LOOK_MS);
  }

  const seen = () => { if (!document.hidden) look(); };
  document.addEventListener("visibilitychange", seen);
  look();
  return { element, end: () => { gone = true; clearTimeout(timer); document.removeEventListener("visibilitychange", seen); } };
}

