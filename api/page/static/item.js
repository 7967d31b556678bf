// One item: what is known of it, what it waits for, and its points with their texts.
import { ask, part } from "./ask.js";
import { confirm, count, facts, fill, h, say, table, time } from "./dom.js";
import { read } from "./live.js";

const LOOK_MS = 2000;

export function item(place, may, source = "", ...rest) {
  const id = rest.join("/");
  const which = h("select", { id: "item-source" });
  const key = h("input", { id: "item-id", required: true, value: id, spellcheck: "false", autocomplete: "off" });
  const shown = h("div");
  place.append(h("h1", {}, "Why is an item found, or not?"),
    h("form", { class: "row", onsubmit: (event) => {
      event.preventDefault();
      location.hash = `#/item/${part(which.value)}/${part(key.value)}`;
    } },
    h("div", {}, h("label", { for: "item-source" }, "Source"), which),
    h("div", { class: "wide" }, h("label", { for: "item-id" }, "Key of the row"), key),
    h("button", { class: "main" }, "Look")), shown);
  const stop = read((overview) => {
    if (!which.options.length) {
      which.append(...overview.sources.map((each) => h("option", { value: each.name, selected: each.name === source }, each.name)));
    }
  });
  let gone = false;
  let timer = null;
  const end = () => { gone = true; clearTimeout(timer); stop(); };
  if (!id) return end;
  const state = h("div");
  const points = h("div");
  const buttons = h("div", { class: "buttons" });
  shown.append(h("h2", {}, `${source}: ${id}`), state, buttons, points);
  if (may.has("POST /admin/bulk/regenerate-embeddings")) {
    buttons.append(h("button", { type: "button", onclick: regenerate }, "Regenerate"));
  }
  let seen = "";

  async function look() {
    clearTimeout(timer);
    try {
      const told = await ask("GET", `admin/items/${part(source)}/${part(id)}`);
      if (gone) return;
      fill(state, verdict(told), known(told));
      const now = JSON.stringify([told.status, told.indexed, told.indexed_at]);
      if (now !== seen) await showPoints(told);
      seen = now;
    } catch (error) {
      if (!gone) fill(state, h("p", { class: "bad", role: "alert" }, error.message));
    }
    if (!gone) timer = setTimeout(look, LOOK_MS);
  }

  async function regenerate() {
    const yes = await confirm(`Embed ${id} anew?`, ["Its text is embedded whether it changed or not: that costs one embedding of it."],
      { act: "Regenerate" });
    if (!yes) return;
    try {
      await ask("POST", "admin/bulk/regenerate-embeddings", { source, context_ids: [keyOf(id)] });
      say("It is queued in the lane bulk.");
    } catch (error) {
      say(`Refused: ${error.message}`);
    }
    look();
  }

  async function showPoints() {
    if (!may.has("GET /admin/points/{source}/{item_id}")) {
      fill(points, h("p", { class: "faint" }, "Your key's role sees no texts: its points are not shown."));
      return;
    }
    const told = await ask("GET", `admin/points/${part(source)}/${part(id)}`);
    if (gone) return;
    fill(points, h("h2", {}, "Points in Qdrant"),
      table(`Chunks in ${told.collection}`, [
        ["Chunk", (each) => String(each.chunk)],
        ["Characters", (each) => (each.span ? `${count(each.span[0])}–${count(each.span[1])}` : "–")],
        ["Text", (each) => (each.text === null ? h("span", { class: "warn" }, "the row holds another text there by now")
          : h("span", { class: "chunk" }, each.text)), "text"],
        ["Written under", (each) => `token ${count(each.token)}`, "number"],
        ["Fingerprint", (each) => h("code", {}, each.fingerprint.slice(0, 12))],
      ], told.points, "It has none: no search finds it."),
      h("h2", {}, "The row as it is now"),
      told.row ? [h("p", { class: "chunk" }, told.row.text || "Its text is empty."),
        facts(Object.entries(told.row.payload).map(([name, value]) => [name, h("code", {}, JSON.stringify(value))]))]
        : h("p", {}, "There is no row."));
  }

  look();
  return end;
}

function keyOf(id) {
  if (!id.startsWith("[")) return id;
  try {
    return JSON.parse(id); // a composite key
  } catch {
    return id;
  }
}

function verdict(told) {
  if (told.status === "FAILED") return h("p", { class: "bad" }, `It failed: ${told.error ?? "the reason is not known"}.`);
  if (told.waits_for) return h("p", { class: "warn" }, `It waits for ${told.waits_for}.`);
  if (told.wanted && told.wanted === told.indexed) return h("p", { class: "ok" }, "Qdrant holds the text that the row has now.");
  if (told.status === "DELETED" || told.wanted === null) return h("p", {}, "There is no text to index.");
  return h("p", { class: "warn" }, "Qdrant does not hold the text that the row has now.");
}

function known(told) {
  const outcome = { true: "SUCCESS", false: "FAILURE", null: "not answered yet" };
  return [
    facts([
      ["Status", told.status ?? "nothing was ever due for it"],
      ["Waits for", told.waits_for ?? "nothing"],
      ["Last error", told.error],
      ["Attempts", count(told.attempts)],
      ["Next try", time(told.next_try_at)],
      ["Lane", told.lane],
      ["Changed", time(told.changed_at)],
      ["Indexed", time(told.indexed_at)],
      ["Chunks", count(told.chunks)],
      ["Wanted", h("code", {}, told.wanted ?? "–")],
      ["In Qdrant", h("code", {}, told.indexed ?? "–")],
    ]),
    told.history.length ? table("Who asked for it, by task id", [
      ["Task", (each) => h("code", {}, each.task_id)],
      ["Outcome", (each) => `${outcome[each.succeeded]}${each.error ? `: ${each.error}` : ""}`, "text"],
      ["Asked", (each) => time(each.created_at)],
    ], told.history, "") : null,
  ];
}
