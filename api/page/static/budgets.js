// What may be spent: each budget with what is used of it, and a form to set one.
import { ask } from "./ask.js";
import { confirm, fill, h, say, table } from "./dom.js";
import { now } from "./live.js";

const PERIODS = { day: "a day (UTC)", month: "a month", run: "this run" };

export function budgets(may, dollars) {
  const element = h("section", { "aria-labelledby": "budgets" });
  const list = h("div");
  element.append(h("h2", { id: "budgets" }, "Budgets"), list);
  if (may.has("PUT /admin/budgets")) element.append(form());

  async function look() {
    const told = await ask("GET", "admin/budgets");
    show(told.budgets);
  }

  function show(all) {
    fill(list, table("What may be spent, and what is used of it", [
      ["Sources", (each) => each.source ?? "all together"],
      ["For", (each) => (each.kind === "search" ? "searches" : each.stops_edits ? "indexing, edits too" : "indexing")],
      ["Dollars", (each) => `${dollars(each.usd)} ${PERIODS[each.period]}`, "date"],
      ["Used", (each) => dollars(each.used_usd), "number"],
      ["", (each) => (each.usd > 0 ? `${Math.round((100 * each.used_usd) / each.usd)} %` : "–"), "number"],
      ["State", (each) => (each.state === "closed" ? h("span", { class: "bad" }, each.ends ? `used up until ${each.ends} 00:00 UTC` : "used up") : "open"), "date"],
    ], all, "Nothing limits what is spent."));
  }

  function form() {
    const source = h("select", { id: "budget-source" }, h("option", { value: "" }, "all together"),
      (now()?.sources ?? []).map((each) => h("option", {}, each.name)));
    const kind = h("select", { id: "budget-kind" }, h("option", { value: "indexing" }, "indexing"), h("option", { value: "search" }, "searches"));
    const period = h("select", { id: "budget-period" }, h("option", { value: "day" }, "a day"), h("option", { value: "month" }, "a month"));
    const usd = h("input", { id: "budget-usd", type: "number", min: "0", step: "any", placeholder: "no limit" });
    const edits = h("input", { id: "budget-edits", type: "checkbox" });
    return h("form", { onsubmit: (event) => { event.preventDefault(); set(); } },
      h("div", { class: "fields" },
        h("div", {}, h("label", { for: "budget-source" }, "Sources"), source),
        h("div", {}, h("label", { for: "budget-kind" }, "For"), kind),
        h("div", {}, h("label", { for: "budget-period" }, "By"), period),
        h("div", {}, h("label", { for: "budget-usd" }, "Dollars"), usd)),
      h("label", { class: "check" }, edits, "Edits wait, too, once it is used up"),
      h("button", {}, "Set the budget"));

    async function set() {
      const named = `${kind.value === "search" ? "searches" : "indexing"} of ${source.value || "all sources together"}`;
      const limit = usd.value === "" ? null : Number(usd.value);
      const stops = kind.value === "search" ? "searches are refused, or go by words alone where a source has keywords"
        : `backfills and rebuilds wait${edits.checked ? ", and edits, too" : ""}`;
      const yes = await confirm(limit === null ? `Nothing limits ${named}?` : `Let ${named} cost ${dollars(limit)} a ${period.value}?`,
        [limit === null ? `What waits for a limit by ${period.value} goes on.` : `Once that is used up, ${stops}. What waits goes on within 5 s of a raise.`],
        { act: limit === null ? "Take it away" : "Set it" });
      if (!yes) return;
      try {
        const body = { source: source.value || undefined, kind: kind.value, period: period.value, usd: limit };
        if (kind.value === "indexing") body.stops_edits = edits.checked;
        const told = await ask("PUT", "admin/budgets", body);
        show(told.budgets);
        say("The budget is set.");
      } catch (error) {
        say(`Refused: ${error.message}`);
      }
    }
  }

  return { element, look };
}
