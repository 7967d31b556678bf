// One source: how it is defined, its generations and runs, and what can be done to it.
import { ask, part } from "./ask.js";
import { comparison } from "./compare.js";
import { confirm, count, counted, facts, fill, h, say, seconds, table, time } from "./dom.js";
import { now, read } from "./live.js";
import { state } from "./overview.js";
import { pastOf } from "./past.js";

const LOOK_MS = 2000; // while something moves
const REST_MS = 10000;
const MOVES_MS = 15000; // so long after a button

export function source(place, may, name) {
  if (!name) return choose(place);
  const live = h("div");
  const known = h("div");
  const runs = h("div");
  const buttons = h("div", { class: "buttons", role: "group", "aria-label": `What can be done to ${name}` });
  const past = pastOf(name);
  const compared = comparison(name);
  place.append(h("h1", {}, `Source ${name}`), live, buttons, compared.element, past.element, runs, known);
  let gone = false;
  let timer = null;
  let latest = null;
  let paused = null;
  let acted = 0;
  let moves = true;

  async function look() {
    clearTimeout(timer);
    const [found, generations, backfills] = await Promise.all([
      ask("GET", `admin/sources/${part(name)}`),
      ask("GET", `admin/generations/${part(name)}`),
      ask("GET", `admin/backfills?source=${part(name)}`),
    ]);
    if (gone) return;
    latest = [found, generations.generations, backfills.backfills];
    moves = backfills.backfills.some((run) => !run.finished_at) || generations.generations.some((each) => each.state === "filling");
    fill(buttons, actions(...latest));
    fill(runs, progress(generations.generations, backfills.backfills));
    if (!known.hasChildNodes()) fill(known, definition(found));
  }

  async function again() {
    try {
      await look();
    } catch (error) {
      if (!gone) fill(runs, h("p", { class: "bad", role: "alert" }, error.message));
    }
    clearTimeout(timer);
    if (!gone) timer = setTimeout(again, moves || Date.now() - acted < MOVES_MS ? LOOK_MS : REST_MS);
  }

  async function act(method, path, body, done) {
    try {
      const told = await ask(method, path, body);
      say(typeof done === "function" ? done(told) : done);
    } catch (error) {
      say(`Refused: ${error.message}`);
    }
    acted = Date.now();
    again();
  }

  function actions(found, generations, backfills) {
    const itself = now()?.sources.find((each) => each.name === name);
    const filling = generations.find((each) => each.state === "filling" || each.state === "ready");
    const standby = generations.find((each) => each.state === "standby");
    const open = backfills.find((each) => each.kind === "backfill" && !each.finished_at);
    const path = `admin/generations/${part(name)}`;
    const all = [
      itself?.paused
        ? ["Resume", "POST /admin/resume", () => act("POST", "admin/resume", { source: name }, `${name} is at work.`)]
        : ["Pause", "POST /admin/pause", async () => {
          const yes = await confirm(`Pause ${name}?`, ["Changes are still recorded, and wait until you resume.",
            "A batch that is being worked on is finished."], { act: "Pause" });
          if (yes) act("POST", "admin/pause", { source: name }, `${name} is paused.`);
        }],
      ["Backfill", "POST /admin/backfills", async () => {
        const yes = await confirm(`Backfill ${name}?`, ["Every row is looked at, in the lane bulk; edits go first.", ...await costs(false)],
          { act: "Start the backfill", boxes: { force: "Embed anew although the text is unchanged" } });
        if (yes) act("POST", "admin/backfills", { source: name, force: yes.force }, (run) => `Backfill ${run.id} has begun.`);
      }, Boolean(open)],
      ["Compare", "POST /admin/reconcile", compared.begin],
      ["Rebuild", "POST /admin/generations/{source}/rebuild", async () => {
        const yes = await confirm(`Rebuild ${name}?`, ["The next generation is filled beside the one that searches use; " +
          "they do not notice.", ...await costs(true), "Until it is promoted or dropped, each edit is written to both."], { act: "Start the rebuild" });
        if (yes) act("POST", `${path}/rebuild`, {}, (made) => `Generation ${made.generation} is being filled.`);
      }, Boolean(filling)],
      filling && ["Promote", "POST /admin/generations/{source}/promote", async () => {
        const yes = await confirm(`Make searches use generation ${filling.number}?`, [
          "The former generation is kept as a way back, and gets every edit. Costs no embedding.",
          `${count(filling.pending)} items wait for it, ${count(filling.failed)} failed in it.`,
        ], { act: "Promote", boxes: { accept_failed: "Even if items failed in it that searches find now" } });
        if (yes) act("POST", `${path}/promote`, yes, (done) => `Searches use generation ${done.generation}.`);
      }, filling.state !== "ready"],
      filling && ["Drop the rebuild", "POST /admin/generations/{source}/cancel", async () => {
        const yes = await confirm(`Drop generation ${filling.number}?`, ["What was embedded for it is lost. Searches do not notice."],
          { act: "Drop it" });
        const done = `Generation ${filling.number} is dropped.`;
        if (yes && filling.state === "ready") act("POST", `${path}/prune`, { generation: filling.number }, done);
        else if (yes) act("POST", `${path}/cancel`, {}, done);
      }],
      standby && ["Roll back", "POST /admin/generations/{source}/rollback", async () => {
        const yes = await confirm(`Make searches use generation ${standby.number} again?`,
          ["It has every edit that was made since. Costs no embedding.",
            `${count(standby.pending)} items wait for it, ${count(standby.failed)} failed in it.`], { act: "Roll back" });
        if (yes) act("POST", `${path}/rollback`, {}, (done) => `Searches use generation ${done.generation}.`);
      }],
    ].filter(Boolean);
    const allowed = all.filter(([, operation]) => may.has(operation));
    const shown = allowed.map(([label, , onclick, disabled]) =>
      h("button", { type: "button", onclick, disabled, "data-keep": label }, label));
    const refused = all.filter(([, operation]) => !may.has(operation)).map(([label]) => label.toLowerCase());
    return [...shown, refused.length ? h("p", { class: "faint small" }, `Your key's role may not: ${refused.join(", ")}.`) : null];
  }

  async function costs(everything) {
    try {
      const cost = await ask("GET", `admin/sources/${part(name)}/cost${everything ? "?rebuild=true" : ""}`);
      const about = cost.is_estimate ? "about " : "";
      const dollars = (value) => (value === null ? "the price is not known" : `$${value.toFixed(2)}`);
      const all = `${about}${counted(cost.rows, "row")}, ${counted(cost.tokens, "token")}, ${dollars(cost.dollars)}`;
      if (cost.rebuild) return planned(cost.rebuild, cost.embedder, dollars);
      return everything ? [`Embeds at most ${all}, by ${cost.embedder}.`]
        : [`Embeds what is not indexed as it is: ${about}${counted(cost.changed, "row")}, ${counted(cost.changed_tokens, "token")}, ` +
          `${dollars(cost.changed_dollars)}. With the box below, everything: ${all}.`];
    } catch (error) {
      return [`What it costs can't be told: ${error.message}`];
    }
  }

  // What `reindexer plan` tells.
  function planned({ rows, items, tokens, dollars, minutes, disk, standby, unreadable }, embedder, money) {
    const size = (bytes) => (bytes < 1e6 ? `${count(bytes / 1e3)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`);
    const range = (of, said) => (said(of.low) === said(of.high) ? said(of.high) : `${said(of.low)} to ${said(of.high)}`);
    return [
      `Embeds ${range(items, count)} of ${counted(rows, "row")}: ${range(tokens, count)} tokens, ` +
      `${dollars ? range(dollars, money) : "the price is not known"}, by ${embedder}.` +
      `${items.high < rows ? " The others take the vectors that are there." : ""}`,
      `Takes ${minutes === null ? "a time that is not known yet" : `about ${seconds(minutes * 60)}`}, and ${range(disk, size)} in Qdrant.` +
      `${unreadable ? ` ${counted(unreadable, "row")} can't be read, and will fail.` : ""}`,
      standby && `The former generation is kept as a way back for ${seconds(standby.hours * 3600)}: 1,000 edits then cost ` +
      `${range(standby.tokens_per_1000_edits, count)} tokens more, and its points ${range(standby.disk, size)}.`,
    ].filter(Boolean);
  }

  function progress(generations, backfills) {
    return [
      h("h2", {}, "Runs"),
      table(`Walks over all of ${name}`, [
        ["Run", (run) => `${run.id}: ${run.kind.replaceAll("_", " ")}`],
        ["State", (run) => run.state],
        ["Progress", (run) => bar(run)],
        ["Act", (run) => controls(run)],
        ["Items/s", (run) => (run.rate === null ? "–" : run.rate.toFixed(1)), "number"],
        ["Left", (run) => (run.finished_at ? "–" : seconds(run.eta_s)), "number"],
        ["Failed", (run) => count(run.failed), "number"],
        ["Started", (run) => time(run.started_at)],
      ], backfills.slice(0, 10), "There was none."),
      backfills.filter((run) => run.error).slice(0, 3).map((run) => h("p", { class: "bad" }, `Run ${run.id}: ${run.error}`)),
      h("h2", {}, "Generations"),
      table(`Collections of ${name}`, [
        ["Generation", (each) => String(each.number)],
        ["State", (each) => each.state],
        ["Collection", (each) => h("code", {}, each.collection)],
        ["Embedder", (each) => h("code", {}, each.embedder ?? "–")],
        ["Pending", (each) => count(each.pending), "number"],
        ["Failed", (each) => count(each.failed), "number"],
        ["Oldest change", (each) => seconds(each.oldest_change_age_s), "number"],
        ["Problem", (each) => each.problem ?? "–", "text"],
      ], generations.filter((each) => each.state !== "dropped"), "There is none."),
    ];
  }

  function controls(run) {
    if (run.finished_at) return "";
    const path = `admin/backfills/${run.id}`;
    const control = (label, verb, done) => may.has(`POST /admin/backfills/{run_id}/${verb}`)
      && h("button", { type: "button", "data-keep": `${verb} ${run.id}`, "aria-label": `${label} run ${run.id}`,
        onclick: () => act("POST", `${path}/${verb}`, undefined, done) }, label);
    return h("div", { class: "buttons" },
      run.state === "paused" ? control("Go on", "resume", `Run ${run.id} goes on.`) : control("Pause", "pause", `Run ${run.id} is paused.`),
      run.kind === "backfill" && control("Cancel", "cancel", `Run ${run.id} is cancelled.`));
  }

  const stop = read((overview) => {
    const itself = overview.sources.find((each) => each.name === name);
    if (latest && itself && itself.paused !== paused) fill(buttons, actions(...latest));
    paused = itself?.paused;
    fill(live, itself ? h("p", {}, state(itself), ` · ${count(itself.due)} due · ${count(itself.completed)} completed · `,
      h("a", { href: `#/failed/${part(name)}`, "data-keep": "failed" }, `${count(itself.failed + itself.healing)} failed`),
      ` · triggers ${itself.triggers ?? "not known"}`) : h("p", { class: "faint" }, "It is not attached."));
  });
  again();
  return () => { gone = true; clearTimeout(timer); stop(); past.end(); compared.end(); };
}

function bar(run) {
  if (run.total === null) return `${count(run.done)} done`;
  const text = `${count(run.done)} of ${run.total_is_estimate ? "about " : ""}${count(run.total)}`;
  if (run.finished_at) return text;
  return [h("progress", { max: Math.max(1, run.total), value: Math.min(run.done, run.total), "aria-label": `Run ${run.id}` }), " ", text];
}

function definition(found) {
  const value = (each) => h("code", {}, Array.isArray(each) ? each.join(", ") : typeof each === "string" ? each : JSON.stringify(each));
  return [
    h("h2", {}, "Definition"),
    facts(Object.entries(found.definition).map(([key, each]) => [key.replaceAll("_", " "), value(each)])),
    h("h2", {}, "Payload"),
    table("Columns by which a search can filter", [
      ["Column", (each) => each.name],
      ["Kind", (each) => each.kind],
      ["Indexed", (each) => (each.indexed ? "yes" : "no")],
    ], found.payload, "It has no payload columns."),
  ];
}

function choose(place) {
  const list = h("div");
  place.append(h("h1", {}, "Sources"), list);
  return read((overview) => fill(list, table("Attached tables", [
    ["Source", (each) => h("a", { href: `#/source/${part(each.name)}`, "data-keep": each.name }, each.name)],
    ["State", state],
    ["Due", (each) => count(each.due), "number"],
    ["Completed", (each) => count(each.completed), "number"],
    ["Failed", (each) => count(each.failed + each.healing), "number"],
  ], overview.sources, "No source is attached.")));
}
