// Dead letters: items that failed, by reason, and their replay.
import { ask, part } from "./ask.js";
import { confirm, count, counted, fill, h, say, table, time } from "./dom.js";
import { read } from "./live.js";

const PAGE = 100;
const MOST = 1000;

export function failed(place, may, wanted = "") {
  const choice = h("select", { id: "failed-source", onchange: () => { location.hash = `#/failed/${part(choice.value)}`; } },
    h("option", { value: "" }, "All sources"));
  const reasons = h("div");
  const list = h("div");
  place.append(h("h1", {}, "Dead letters"),
    h("p", {}, "Items that failed. Search finds them by their older text, or not at all."),
    h("form", { class: "row" }, h("div", {}, h("label", { for: "failed-source" }, "Source"), choice)), reasons, list);
  let gone = false;
  let letters = [];
  let cursor = null;

  async function look() {
    letters = [];
    cursor = null;
    do await more(MOST); while (cursor && letters.length < MOST && !gone);
    show();
  }

  async function more(limit) {
    const query = [`limit=${limit}`, wanted && `source=${part(wanted)}`, cursor && `cursor=${part(cursor)}`].filter(Boolean);
    const told = await ask("GET", `admin/dead-letters?${query.join("&")}`);
    letters.push(...told.dead_letters);
    cursor = told.next_cursor;
  }

  function show() {
    if (gone) return;
    const groups = new Map();
    for (const each of letters) {
      const key = `${each.source}\n${each.error}`;
      if (!groups.has(key)) groups.set(key, { source: each.source, error: each.error, items: 0, heals: 0, example: each.item_id });
      const group = groups.get(key);
      group.items += 1;
      group.heals += each.heals_at ? 1 : 0;
    }
    const allowed = may.has("POST /admin/dead-letters/replay");
    fill(reasons, h("h2", {}, "By reason"),
      cursor ? h("p", { class: "warn" }, `The first ${count(letters.length)} are counted; there are more.`) : null,
      table("Reasons", [
        ["Reason", (each) => each.error ?? "not known", "text"],
        ["Act", (each) => allowed && h("button", { type: "button", "data-keep": `${each.source} ${each.error}`,
          "aria-label": `Replay all of ${each.source} that failed so: ${each.error}`,
          onclick: () => replay({ source: each.source, error: each.error ?? undefined },
            `all of ${each.source} that failed with “${each.error}”`) }, "Replay these")],
        ["Source", (each) => each.source],
        ["Items", (each) => count(each.items), "number"],
        ["Heal by themselves", (each) => count(each.heals), "number"],
      ], [...groups.values()].sort((one, other) => other.items - one.items), "Nothing has failed."),
      letters.length && allowed ? h("div", { class: "buttons" }, h("button", { type: "button", "data-keep": "all",
        onclick: () => replay(wanted ? { source: wanted } : {}, wanted ? `all of ${wanted}` : "all") }, "Replay all")) : null);
    fill(list, letters.length ? h("h2", {}, "Items") : null, letters.length ? table("Failed items", [
      ["Item", (each) => h("a", { href: `#/item/${part(each.source)}/${part(each.item_id)}` }, each.item_id)],
      ["Act", (each) => allowed && h("button", { type: "button", "aria-label": `Replay ${each.item_id} of ${each.source}`,
        onclick: () => replay({ source: each.source, item_id: each.item_id }, null) }, "Replay")],
      ["Source", (each) => each.source],
      ["Reason", (each) => each.error ?? "not known", "text"],
      ["Failed", (each) => time(each.failed_at)],
      ["Tried again", (each) => (each.heals_at ? time(each.heals_at) : "not by itself")],
    ], letters.slice(0, PAGE), "") : null,
    letters.length > PAGE ? h("p", { class: "faint" }, `The first ${PAGE} are shown.`) : null);
  }

  async function replay(which, what) {
    if (what) {
      const yes = await confirm(`Replay ${what}?`, ["They are due again in the lane bulk, with all their tries.",
        "Each costs at most one embedding of its text. At most 10,000 are replayed at a time."], { act: "Replay" });
      if (!yes) return;
    }
    try {
      const told = await ask("POST", "admin/dead-letters/replay", which);
      say(`${counted(told.replayed, "item")} will be tried again.${told.left ? ` ${count(told.left)} are left: ask again.` : ""}`);
    } catch (error) {
      say(`Refused: ${error.message}`);
    }
    again();
  }

  async function again() {
    try {
      await look();
    } catch (error) {
      if (!gone) fill(reasons, h("p", { class: "bad", role: "alert" }, error.message));
    }
  }

  let known = null;
  const stop = read((overview) => {
    if (choice.options.length === 1) {
      choice.append(...overview.sources.map((each) => h("option", { value: each.name, selected: each.name === wanted }, each.name)));
    }
    const now = JSON.stringify(overview.sources.map((each) => [each.failed, each.healing]));
    if (known !== null && known !== now) again();
    known = now;
  });
  again();
  return () => { gone = true; stop(); };
}
