// What requests to providers cost: by day as bars, and by source, model and purpose.
import { ask } from "./ask.js";
import { budgets } from "./budgets.js";
import { count, fill, h, table } from "./dom.js";

const LOOK_MS = 60000;
const BY = [["source", "Source"], ["model", "Model"], ["purpose", "Purpose"], ["day", "Day (UTC)"]];
const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 120;

export function spend(place, may) {
  const choice = h("select", { id: "days", onchange: () => look() },
    [[1, "today"], [7, "7 days"], [30, "30 days"], [90, "90 days"]].map(([days, text]) => h("option", { value: days, selected: days === 30 }, text)));
  const wrong = h("p", { class: "bad", role: "alert", hidden: true });
  const whole = h("div");
  const limits = budgets(may, dollars);
  const tables = h("div");
  place.append(
    h("div", { class: "heading first" }, h("h1", {}, "Spend"), h("div", { class: "range" }, h("label", { for: "days" }, "The last"), choice)),
    h("p", { class: "faint" }, "What requests to providers cost, by UTC day. It is never below what they counted."), wrong, whole, limits.element, tables);
  let gone = false;
  let timer = null;

  async function look() {
    clearTimeout(timer);
    const days = choice.value;
    if (!document.hidden) {
      try {
        await limits.look();
        const told = await Promise.all(BY.map(([by]) => ask("GET", `admin/spend?by=${by}&days=${days}`)));
        if (gone || days !== choice.value) return;
        wrong.hidden = true;
        show(Object.fromEntries(told.map((each) => [each.by, each])), Number(days));
      } catch (error) {
        wrong.textContent = error.message;
        wrong.hidden = false;
      }
    }
    if (!gone) timer = setTimeout(look, LOOK_MS);
  }

  function show(by, days) {
    const sum = (what) => by.day.spent.reduce((all, each) => all + each[what], 0);
    const aside = by.day.reserved;
    fill(whole,
      h("dl", { class: "cards" },
        card("Spent", dollars(sum("dollars")), `${count(sum("tokens"))} tokens as providers counted`),
        card("Tokens set aside", count(aside.tokens), `${dollars(aside.dollars)}, for requests not accounted yet`),
        card("Tokens unconfirmed", count(sum("unconfirmed_tokens")), "at most: no answer told how many"),
        card("Tokens without a price", count(sum("unpriced_tokens")), "of both; REINDEXER_PRICES names prices")),
      by.day.spent.length ? bars(by.day.spent, days) : null);
    fill(tables, BY.map(([name, title]) => [
      h("h2", {}, `By ${name}`),
      table(`Requests to providers by ${name}`, [
        [title, (each) => each.name, name === "day" ? "date" : null],
        ["Dollars", (each) => dollars(each.dollars), "number"],
        ["Tokens", (each) => count(each.tokens), "number"],
        ["Unconfirmed", (each) => count(each.unconfirmed_tokens), "number"],
        ["Without a price", (each) => count(each.unpriced_tokens), "number"],
        ["Requests", (each) => count(each.requests), "number"],
      ], name === "day" ? [...by[name].spent].reverse() : [...by[name].spent].sort((one, other) => other.dollars - one.dollars || other.tokens - one.tokens),
      "Nothing was spent."),
    ]));
  }

  const seen = () => { if (!document.hidden) look(); };
  document.addEventListener("visibilitychange", seen);
  look();
  return () => { gone = true; clearTimeout(timer); document.removeEventListener("visibilitychange", seen); };
}

// A bar a day: of money where a price is known, else of tokens. The table below tells the same.
function bars(spent, days) {
  const known = new Map(spent.map((each) => [each.name, each]));
  const today = new Date();
  const shown = Array.from({ length: days }, (_, n) => new Date(Date.UTC(today.getUTCFullYear(), today.getUTCMonth(), today.getUTCDate() - days + 1 + n)).toISOString().slice(0, 10));
  const money = spent.some((each) => each.dollars > 0);
  const value = (day) => (known.has(day) ? (money ? known.get(day).dollars : known.get(day).tokens + known.get(day).unconfirmed_tokens) : 0);
  const most = Math.max(...shown.map(value)) || 1;
  const said = money ? dollars : (each) => `${count(each)} tokens`;
  const draw = (tag, attributes, ...children) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, each] of Object.entries(attributes)) element.setAttribute(name, each);
    element.append(...children);
    return element;
  };
  const wide = 1000 / days;
  const best = shown.reduce((one, other) => (value(other) > value(one) ? other : one));
  const picture = draw("svg", { viewBox: `0 0 1000 ${HEIGHT}`, preserveAspectRatio: "none", class: "bars", role: "img",
    "aria-label": `${money ? "Dollars" : "Tokens"} a day: the most, ${said(value(best))}, on ${best}; today ${said(value(shown.at(-1)))}.` },
  ...shown.map((day, n) => {
    const high = (value(day) / most) * (HEIGHT - 4);
    const bar = draw("rect", { x: (n + 0.1) * wide, width: 0.8 * wide, y: HEIGHT - high, height: high, class: "bar" });
    bar.append(draw("title", {}, document.createTextNode(`${day}: ${said(value(day))}`)));
    return bar;
  }));
  return h("figure", { class: "plot" },
    h("figcaption", {}, money ? "Dollars a day" : "Tokens a day", h("span", { class: "faint small" }, ` at most ${said(most)}`)),
    picture, h("p", { class: "ends faint small" }, h("span", {}, shown[0]), days > 1 ? h("span", {}, shown.at(-1)) : null));
}

function dollars(value) {
  if (value === 0) return "$0";
  return value >= 0.01 ? `$${value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}` : `$${Number(value.toPrecision(2))}`;
}

function card(title, value, more) {
  return h("div", { class: "card" }, h("dt", {}, title), h("dd", {}, value), h("dd", { class: "small" }, more));
}
