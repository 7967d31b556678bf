// The comparison of a source with its index: it runs while its page is open, and tells what differs.
import { lines, part } from "./ask.js";
import { confirm, count, counted, fill, h, seconds, table } from "./dom.js";

const KINDS = [
  ["missing", "Missing", "rows with text that lack a point"],
  ["stale", "Stale", "rows whose point is of another text, payload or model"],
  ["orphaned", "Orphaned", "points without a row, or without text in it"],
  ["unsettled", "At work", "items that are being worked on, and not judged"],
  ["unreadable", "Unreadable", "rows that can't be read, and not judged"],
  ["foreign", "Foreign", "points that are not ours, and never touched"],
];

// Returns an element, what begins a comparison, and what ends it.
export function comparison(source) {
  const element = h("section", { "aria-label": `Comparison of ${source} with Qdrant` });
  let going = null;

  async function begin() {
    const yes = await confirm(`Compare ${source} with Qdrant?`, ["Every row is compared with its points, and every point with its row. " +
      "It reads all of both, changes nothing, and costs no embedding. It runs while this page is open."], { act: "Compare" });
    if (yes) run(false);
  }

  async function repair(found) {
    const yes = await confirm(`Repair ${source}?`, [
      `It is compared once more. What differs then is made due in the lane bulk: some ${count(found.missing + found.stale)} items are embedded ` +
      `or written anew, and some ${counted(found.orphaned, "point")} deleted.`,
      "More than 100 deletions, and more than 10 % of the points, are refused: often they mean the wrong database."], { act: "Repair" });
    if (yes) run(true);
  }

  async function run(mends) {
    going?.abort();
    const mine = going = new AbortController();
    const state = h("p", { role: "status" }, "It begins.");
    const stop = h("button", { type: "button", onclick: () => { mine.abort(); fill(element, title(), h("p", {}, "It was stopped.")); } }, "Stop");
    fill(element, title(), state, h("div", { class: "buttons" }, stop));
    try {
      let last = null;
      await lines("admin/reconcile", { source, repair: mends }, (line) => {
        last = line;
        if (line.stage) state.textContent = `${line.stage}: ${count(line.done)}, for ${seconds(line.seconds)}`;
      }, mine.signal);
      if (!mine.signal.aborted) fill(element, title(), told(last));
    } catch (error) {
      if (!mine.signal.aborted) fill(element, title(), h("p", { class: "bad", role: "alert" }, `It ended: ${error.message}`));
    }
  }

  function told(last) {
    const found = last?.result;
    if (!found) return h("p", { class: "bad", role: "alert" }, `It ended: ${last?.error ?? "the answer broke off"}`);
    const differ = found.missing + found.stale + found.orphaned;
    return [
      h("p", { role: "status", class: found.equal ? "ok" : "" }, found.equal
        ? `Equal: ${counted(found.rows, "row")}, ${counted(found.points, "point")}.`
        : `${counted(found.rows, "row")} and ${counted(found.points, "point")} were compared: ${counted(differ, "difference")}` +
          `${found.failed ? `, of which ${count(found.failed)} failed before, with a reason` : ""}.`),
      last.error ? h("p", { class: "bad", role: "alert" }, last.error) : null,
      found.queued === null ? null : h("p", { class: "ok" }, `${counted(found.queued, "item")} will be mended.`),
      found.equal ? null : table("What differs", [
        ["Kind", ([, name]) => name],
        ["Number", ([kind]) => count(found[kind]), "number"],
        ["Meaning", ([, , meaning]) => meaning],
        ["Such as", ([kind]) => (found.examples[kind] ?? []).slice(0, 5).map((id, n) =>
          [n ? ", " : "", h("a", { href: `#/item/${part(source)}/${part(id)}` }, id)]).flat(), "text"],
      ], KINDS.filter(([kind]) => found[kind]), ""),
      differ && found.queued === null ? h("div", { class: "buttons" },
        h("button", { type: "button", onclick: () => repair(found) }, `Repair ${counted(differ, "difference")}`)) : null,
    ];
  }

  const title = () => h("h2", {}, "Comparison with Qdrant");
  return { element, begin, end: () => going?.abort() };
}
