// A playground: search a source by meaning or words, with filters built from the kinds of its payload.
import { ask, part } from "./ask.js";
import { fill, h } from "./dom.js";
import { read } from "./live.js";

const COMPARED = ["integer", "float", "datetime"];

export function search(place, may, wanted = "") {
  place.append(h("h1", {}, "Search"));
  if (!may.has("POST /search")) {
    place.append(h("p", {}, "Your key's role sees no texts, so it does not search. A key of the role admin does."));
    return () => {};
  }
  const which = h("select", { id: "search-source", onchange: () => filters() });
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
      h("div", {}, h("label", { for: "search-limit" }, "Hits"), limit)),
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
      const began = performance.now();
      const told = await ask("POST", "search", body);
      if (gone) return;
      fill(hits,
        h("h2", {}, `${told.hits.length} hit${told.hits.length === 1 ? "" : "s"} in ${Math.round(performance.now() - began)} ms`),
        told.degraded ? h("p", { class: "warn" }, `Degraded: only ${told.degraded} counted.`) : null,
        told.hits.map(shown));
    } catch (error) {
      if (!gone) fill(hits, h("p", { class: "bad", role: "alert" }, error.message));
    }
  }

  function shown(hit) {
    return h("article", { class: "hit" },
      h("h3", {}, h("a", { href: `#/item/${part(hit.source)}/${part(hit.item_id)}` }, hit.item_id)),
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
  });
  return () => { gone = true; stop(); };
}

// The words of the query, where the text has them as they are.
function marked(text, query) {
  const words = [...new Set(query.match(/[\p{L}\p{N}]+/gu) ?? [])].map((each) => each.toLowerCase());
  return text.split(/([\p{L}\p{N}]+)/u).map((piece) => (words.includes(piece.toLowerCase()) ? h("mark", {}, piece) : piece));
}
