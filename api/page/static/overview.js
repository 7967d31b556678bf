// What waits, how fresh it is, who works, and what is wrong: problems first, each with what to do.
import { count, fill, h, seconds, table } from "./dom.js";
import { read } from "./live.js";
import { pastOfAll } from "./past.js";

export function overview(place) {
  const problems = h("section", { "aria-labelledby": "problems" });
  const cards = h("div");
  const past = pastOfAll();
  const rest = h("div");
  const stale = h("p", { class: "bad", role: "alert", hidden: true });
  place.append(h("h1", {}, "Overview"), stale, problems, cards, past.element, rest);
  let told = "";
  const stop = read((now, fresh = true) => {
    stale.hidden = fresh;
    stale.textContent = fresh ? "" : `No answer from the API: this is as of ${new Date(now.at * 1000).toLocaleTimeString()}.`;
    const shown = JSON.stringify(now.problems);
    if (shown !== told) fill(problems, problemsOf(now)); // not each two seconds: what is read aloud stays
    told = shown;
    fill(cards, atOnce(now));
    fill(rest, body(now));
  });
  return () => { stop(); past.end(); };
}

function problemsOf(now) {
  if (!now.problems.length) return [h("h2", { id: "problems" }, "Problems"), h("p", { class: "ok" }, "None is known.")];
  return [
    h("h2", { id: "problems" }, `Problems (${now.problems.length})`),
    now.problems.map((each) => h("article", { class: "problem" },
      h("h3", {}, each.where ? h("a", { href: `#/${each.where.split("/").map(encodeURIComponent).join("/")}` }, each.what) : each.what),
      h("p", {}, h("strong", {}, "For users: "), each.means),
      h("p", {}, h("strong", {}, "Mend: "), each.mend),
      h("p", { class: "small" }, `Runbook: ${each.section}`))),
  ];
}

function atOnce(now) {
  const oldest = Math.max(0, ...Object.values(now.oldest_s));
  const waits = (now.outbox ?? 0) + now.lanes.reduce((sum, lane) => sum + lane.ready + lane.waiting + lane.claimed, 0);
  return [
    h("h2", {}, "Now"),
    h("dl", { class: "cards" },
      card("Waits", count(waits), `${count(now.outbox)} in the outbox`),
      card("Oldest change", oldest ? seconds(oldest) : "none", "not in Qdrant yet"),
      card("Listener", now.listener ?? "–", now.silent.listener ? `${count(now.silent.listener)} went silent` : ""),
      card("Workers", count(now.workers), now.silent.worker ? `${count(now.silent.worker)} went silent` : ""),
      card("Open runs", count(now.runs), "scans of whole sources"),
      card("Breakers", now.breakers.length ? "open" : "closed", now.breakers.map((each) => each.dependency).join(", "))),
  ];
}

function body(now) {
  return [
    h("h2", {}, "Lanes"),
    table("What waits in each lane, and how fast it goes", [
      ["Lane", (lane) => lane.lane],
      ["Ready", (lane) => count(lane.ready), "number"],
      ["Waiting", (lane) => count(lane.waiting), "number"],
      ["Claimed", (lane) => count(lane.claimed), "number"],
      ["Oldest", (lane) => (lane.oldest_s ? seconds(lane.oldest_s) : "–"), "number"],
      ["Items/s", (lane) => (lane.per_s === null ? "–" : lane.per_s.toFixed(1)), "number"],
      ["Commit → searchable p50", (lane) => within(lane.freshness.p50), "number"],
      ["p99", (lane) => within(lane.freshness.p99), "number"],
      ["Of", (lane) => `${count(lane.freshness.changes)} ${lane.freshness.ever ? "ever" : "in 5 min"}`, "number"],
      ["Messages", (lane) => count(lane.messages), "number"],
    ], now.lanes, "No lane is known."),
    h("h2", {}, "Sources"),
    table("Sources and their items", [
      ["Source", (each) => h("a", { href: `#/source/${encodeURIComponent(each.name)}`, "data-keep": `source ${each.name}` }, each.name)],
      ["State", state],
      ["Due", (each) => count(each.due), "number"],
      ["Completed", (each) => count(each.completed), "number"],
      ["Failed", (each) => count(each.failed), "number"],
      ["Healing", (each) => count(each.healing), "number"],
      ["Triggers", (each) => each.triggers ?? "–"],
    ], now.sources, "No source is attached."),
    h("h2", {}, "Processes"),
    table("Listeners and workers by their heartbeats", [
      ["Process", (each) => each.name],
      ["Role", (each) => each.role],
      ["Heartbeat", (each) => `${seconds(each.age_s)} ago`, "number"],
      ["Version", (each) => each.version],
    ], now.processes, "None beats."),
    limits(now),
  ];
}

function limits(now) {
  const known = Object.entries(now.rate_limits).filter(([, limit]) => limit.requests_limit ?? limit.tokens_limit);
  return [
    h("h2", {}, "Rate limits"),
    table("What the provider allows a minute", [
      ["Source", ([name]) => name],
      ["Requests", ([, limit]) => `${count(limit.requests_per_minute)} of ${count(limit.requests_limit)}`, "number"],
      ["Tokens", ([, limit]) => `${count(limit.tokens_per_minute)} of ${count(limit.tokens_limit)}`, "number"],
      ["A backfill's request waits", ([, limit]) => seconds(limit.queue_s), "number"],
    ], known, "None is known: no provider told one, and no setting does."),
  ];
}

export function state(each) {
  if (each.problem) return h("span", { class: "bad" }, "has a problem");
  if (each.paused) return h("span", { class: "warn" }, "paused");
  return h("span", { class: "ok" }, "at work");
}

function within(bound) {
  return bound === null ? "–" : `≤ ${seconds(bound)}`;
}

function card(title, value, more) {
  return h("div", { class: "card" }, h("dt", {}, title), h("dd", {}, value), more ? h("dd", { class: "small" }, more) : null);
}
