// One source: how it is defined, its generations and runs, and what can be done to it.
import { ask, part } from "./ask.js";
import { confirm, count, counted, facts, fill, h, say, seconds, table, time } from "./dom.js";
import { now, read } from "./live.js";
import { state } from "./overview.js";

const LOOK_MS = 2000;

export function source(place, may, name) {
  if (!name) return choose(place);
  const live = h("div");
  const known = h("div");
  const runs = h("div");
  const buttons = h("div", { class: "buttons", role: "group", "aria-label": `What can be done to ${name}` });
  place.append(h("h1", {}, `Source ${name}`), live, buttons, runs, known);
  let gone = false;
  let timer = null;

  async function look() {
    clearTimeout(timer);
    const [found, generations, backfills] = await Promise.all([
      ask("GET", `admin/sources/${part(name)}`),
      ask("GET", `admin/generations/${part(name)}`),
      ask("GET", `admin/backfills?source=${part(name)}`),
    ]);
    if (gone) return;
    fill(buttons, actions(found, generations.generations, backfills.backfills));
    fill(runs, progress(generations.generations, backfills.backfills));
    if (!known.hasChildNodes()) fill(known, definition(found));
  }

  async function again() {
    try {
      await look();
    } catch (error) {
      if (!gone) fill(runs, h("p", { class: "bad", role: "alert" }, error.message));
    }
    if (!gone) timer = setTimeout(again, LOOK_MS);
  }

  async function act(method, path, body, done) {
    try {
      const told = await ask(method, path, body);
      say(typeof done === "function" ? done(told) : done);
    } catch (error) {
      say(`Refused: ${error.message}`);
    }
    clearTimeout(timer);
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
      ["Rebuild", "POST /admin/generations/{source}/rebuild", async () => {
        const yes = await confirm(`Rebuild ${name}?`, ["The next generation is filled beside the one that searches use; " +
          "they do not notice.", ...await costs(true)], { act: "Start the rebuild" });
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
        if (yes) act("POST", `${path}/cancel`, {}, `Generation ${filling.number} is dropped.`);
      }],
      standby && ["Roll back", "POST /admin/generations/{source}/rollback", async () => {
        const yes = await confirm(`Make searches use generation ${standby.number} again?`,
          ["It has every edit that was made since. Costs no embedding."], { act: "Roll back" });
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
      const cost = await ask("GET", `admin/sources/${part(name)}/cost`);
      const about = cost.is_estimate ? "about " : "";
      const dollars = (value) => (value === null ? "the price is not known" : `$${value.toFixed(2)}`);
      const all = `${about}${counted(cost.rows, "row")}, ${counted(cost.tokens, "token")}, ${dollars(cost.dollars)}`;
      return everything ? [`Embeds at most ${all}, by ${cost.embedder}.`]
        : [`Embeds what is not indexed as it is: ${about}${counted(cost.changed, "row")}, ${counted(cost.changed_tokens, "token")}, ` +
          `${dollars(cost.changed_dollars)}. With the box below, everything: ${all}.`];
    } catch (error) {
      return [`What it costs can't be told: ${error.message}`];
    }
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
    fill(live, itself ? h("p", {}, state(itself), ` · ${count(itself.due)} due · ${count(itself.completed)} completed · `,
      h("a", { href: `#/failed/${part(name)}`, "data-keep": "failed" }, `${count(itself.failed + itself.healing)} failed`),
      ` · triggers ${itself.triggers ?? "not known"}`) : h("p", { class: "faint" }, "It is not attached."));
  });
  again();
  return () => { gone = true; clearTimeout(timer); stop(); };
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
