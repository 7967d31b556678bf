// A playground: search a source by meaning or words, with filters built from the kinds of its payload.
import { ask, part } from "./ask.js";
import { counted, fill, h } from "./dom.js";
import { read } from "./live.js";

const COMPARED = ["integer", "float", "datetime"];

export function search(place, may, wanted = "") {
  place.append(h("h1", {}, "Search"));
  if (!may.has("POST /search")) {
    place.append(h("p", {}, "Your key's role sees no texts, so it does not search. A key of the role admin does."));
    return () => {};
  }
  const which = h("select", { id: "search-source", onchange: () => { filters(); beside(); } });
  const other = h("select", { id: "search-beside" }, h("option", { value: "" }, "nothing"));
  const query = h("input", { id: "search-query", required: true, type: "search", maxlength: "8000" });
  const mode = h("select", { id: "search-mode" },
    h("option", { value: "" }, "As the source allows"), ["meaning", "keywords", "hybrid"].map((each) => h("option", {}, each)));
  const limit = h("input", { id: "search-limit", type: "number", min: "1", max: "100", value: "10" });
  const chunks = h("input", { id: "search-chunks", type: "checkbox" });
  const conditions = h("fieldset", {}, h("legend", {}, "Filter"));
  const hits = h("section", { "aria-live": "polite", "aria-label": "Hits" });
  const form = h("form", { onsubmit: (event) => { event.preventDefault(); run(); } },
    h("div", { class: "fields" },
      h("div", {}, h("label", { for: "search-source" }, "Source"), which),
      h("div", { class: "wide" }, h("label", { for: "search-query" }, "Query"), query),
      h("div", {}, h("label", { for: "search-mode" }, "Mode"), mode),
      h("div", {}, h("label", { for: "search-limit" }, "Hits"), limit),
      h("div", {}, h("label", { for: "search-beside" }, "Beside it"), other)),
    h("label", { class: "check" }, chunks, "Each part of a text on its own"),
    conditions,
    h("button", { class: "main" }, "Search"));
  place.append(form, hits);
  let columns = [];
  let gone = false;

  async function filters() {
    try {
      const told = await ask("GET", `admin/sources/${part(which.value)}`);
      if (gone) return;
      columns = told.payload.filter((each) => each.indexed);
      fill(conditions, h("legend", {}, "Filter"), columns.length ? columns.map(row)
        : h("p", { class: "faint" }, "The source has no payload column that a filter can name."));
    } catch (error) {
      if (!gone) fill(conditions, h("legend", {}, "Filter"), h("p", { class: "bad", role: "alert" }, error.message));
    }
  }

  // Other generations that get every edit.
  async function beside() {
    try {
      const { generations } = await ask("GET", `admin/generations/${part(which.value)}`);
      if (gone) return;
      other.replaceChildren(h("option", { value: "" }, "nothing"), ...generations
        .filter((each) => ["filling", "ready", "standby"].includes(each.state))
        .map((each) => h("option", { value: each.number }, `generation ${each.number} (${each.state})`)));
    } catch {
      other.replaceChildren(h("option", { value: "" }, "nothing"));
    }
  }

  function row(column, n) {
    const how = h("select", { "aria-label": `How ${column.name} is compared`, name: `how-${n}` },
      [["eq", "is"], ["not", "is not"], ...(COMPARED.includes(column.kind) ? [["gte", "at least"], ["lte", "at most"]] : [])]
        .map(([value, text]) => h("option", { value }, text)));
    const value = column.kind === "bool"
      ? h("select", { name: `value-${n}`, "aria-label": `Value of ${column.name}` },
        [["", "any"], ["true", "true"], ["false", "false"]].map(([each, text]) => h("option", { value: each }, text)))
      : h("input", { name: `value-${n}`, "aria-label": `Value of ${column.name}`, placeholder: column.kind,
        inputmode: column.kind === "integer" || column.kind === "float" ? "decimal" : "text" });
    return h("div", { class: "condition" }, h("span", {}, column.name), how, value);
  }

  function filter() {
    const found = {};
    columns.forEach((column, n) => {
      const text = form.elements[`value-${n}`].value.trim();
      if (!text) return;
      const how = form.elements[`how-${n}`].value;
      const value = column.kind === "bool" ? text === "true"
        : column.kind === "integer" || column.kind === "float" ? Number(text) : text;
      found[column.name] = how === "eq" ? value : { [how]: value };
    });
    return found;
  }

  async function run() {
    const body = { source: which.value, query: query.value, limit: Number(limit.value), filter: filter(), text: true,
      group: chunks.checked ? "chunk" : "item", mode: mode.value || null };
    try {
      if (!other.value) {
        const [took, told] = await timed(body);
        if (!gone) fill(hits, heading(`${counted(told.hits.length, "hit")} in ${took} ms`, told), told.hits.map((hit) => shown(hit)));
        return;
      }
      const name = other.selectedOptions[0].textContent;
      const [one, two] = await Promise.all([timed(body), timed({ ...body, generation: Number(other.value) })]);
      if (gone) return;
      const place = (told, hit) => told.hits.findIndex((each) => each.item_id === hit.item_id && (!chunks.checked || each.chunk === hit.chunk));
      const column = (title, [took, told], [, others]) => h("div", {},
        heading(`${title}: ${counted(told.hits.length, "hit")} in ${took} ms`, told),
        told.hits.map((hit, n) => shown(hit, moved(n, place(others, hit)))));
      const both = one[1].hits.filter((hit) => place(two[1], hit) >= 0).length;
      fill(hits, h("p", {}, `${counted(both, "hit")} in common.`),
        h("div", { class: "beside" }, column("The active one", one, two), column(name.replace(/^g/, "G"), two, one)));
    } catch (error) {
      if (!gone) fill(hits, h("p", { class: "bad", role: "alert" }, error.message));
    }
  }

  async function timed(body) {
    const began = performance.now();
    const told = await ask("POST", "search", body);
    return [Math.round(performance.now() - began), told];
  }

  function heading(text, told) {
    return [h("h2", {}, text), told.degraded ? h("p", { class: "warn" }, `Degraded: only ${told.degraded} counted.`) : null];
  }

  // Where the other one has the hit.
  function moved(here, there) {
    if (there < 0) return h("span", { class: "moved only" }, "only here");
    return h("span", { class: "moved" }, there === here ? "same place there" : `place ${there + 1} there`);
  }

  function shown(hit, more = null) {
    return h("article", { class: "hit" },
      h("h3", {}, h("a", { href: `#/item/${part(hit.source)}/${part(hit.item_id)}` }, hit.item_id), more),
      h("p", { class: "small faint" }, `score ${hit.score.toFixed(4)} · chunk ${hit.chunk}`,
        hit.span ? ` · characters ${hit.span[0]}–${hit.span[1]}` : ""),
      hit.text === null || hit.text === undefined ? h("p", { class: "warn" }, "The row holds another text there by now.")
        : h("p", { class: "chunk" }, marked(hit.text, query.value)),
      h("ul", { class: "payload" }, Object.entries(hit.payload).map(([name, value]) =>
        h("li", {}, h("span", { class: "faint" }, `${name} `), h("code", {}, JSON.stringify(value))))));
  }

  const stop = read((overview) => {
    if (which.options.length || !overview.sources.length) return;
    which.append(...overview.sources.map((each) => h("option", { value: each.name, selected: each.name === wanted }, each.name)));
    filters();
    beside();
  });
  return () => { gone = true; stop(); };
}

// The words of the query, where the text has them as they are.
function marked(text, query) {
  const words = [...new Set(query.match(/[\p{L}\p{N}]+/gu) ?? [])].map((each) => each.toLowerCase());
  return text.split(/([\p{L}\p{N}]+)/u).map((piece) => (words.includes(piece.toLowerCase()) ? h("mark", {}, piece) : piece));
}
