// The page: login, the parts by the address after #, and logout.
import { ask, whenLoggedOut } from "./ask.js";
import { h, say } from "./dom.js";
import { failed } from "./failed.js";
import { item } from "./item.js";
import * as live from "./live.js";
import { overview } from "./overview.js";
import { search } from "./search.js";
import { source } from "./source.js";
import { spend } from "./spend.js";

const PARTS = {
  overview: ["Overview", (place) => overview(place)],
  source: ["Sources", source],
  item: ["Item", item],
  failed: ["Dead letters", failed],
  search: ["Search", search],
  spend: ["Spend", spend],
};

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const who = document.getElementById("who");
let user = null;
let leave = () => {};

function clear() {
  leave();
  leave = () => {};
  for (const each of document.querySelectorAll("dialog")) each.close("no");
  main.replaceChildren();
}

function show({ focus = true } = {}) {
  if (!user) return;
  const [wanted, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  const name = wanted in PARTS ? wanted : "overview";
  const [title, part] = PARTS[name];
  clear();
  for (const link of nav.children) {
    if (link.dataset.part === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${title} · reindexer`;
  leave = part(main, user.may, ...rest) ?? (() => {});
  if (focus) main.focus();
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function entered(told) {
  user = { ...told, may: new Set(told.may) };
  nav.hidden = false;
  nav.replaceChildren(...Object.entries(PARTS).map(([name, [title]]) =>
    h("a", { href: name === "overview" ? "#/" : `#/${name}`, "data-part": name }, title)));
  who.replaceChildren(
    h("span", {}, `${told.name ?? "the admin key"} (${told.role})`),
    h("button", { type: "button", onclick: logout }, "Log out"));
  live.start(ended);
  show({ focus: false });
}

async function logout() {
  try {
    await ask("DELETE", "page/session");
    left("You are logged out.");
  } catch (error) {
    say(`Not logged out: ${error.message}`);
  }
}

// The stream was refused or has ended: is it the login, or the server?
async function ended() {
  if (!user) return;
  try {
    await ask("GET", "page/session");
    setTimeout(() => { if (user) live.start(ended); }, 1000);
  } catch (error) {
    if (error.status === 401 || error.status === 403) left("The login has ended, or its key has.");
    else setTimeout(ended, 2000);
  }
}

function left(reason) {
  if (!user) return;
  user = null;
  live.stop();
  login(reason);
}

function login(reason) {
  clear();
  nav.hidden = true;
  who.replaceChildren();
  document.title = "Log in · reindexer";
  const key = h("input", { id: "key", type: "password", required: true, autocomplete: "current-password", spellcheck: "false" });
  const wrong = h("p", { class: "bad", role: "alert" });
  const button = h("button", { class: "main" }, "Log in");
  const form = h("form", { class: "login", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    wrong.textContent = "";
    try {
      const told = await ask("POST", "page/session", { key: key.value });
      entered(told);
      main.focus();
    } catch (error) {
      wrong.textContent = error.message;
      button.disabled = false;
      key.focus();
    }
  } },
  h("h1", {}, "Log in"),
  reason ? h("p", {}, reason) : null,
  h("p", {}, "With a key of the role operate or admin: one that ", h("code", {}, "reindexer keys create"), " made, or that of ",
    h("code", {}, "REINDEXER_ADMIN_API_KEY"), ". The browser keeps no key, but a cookie for 12 hours."),
  h("label", { for: "key" }, "Key"), key, wrong, button);
  main.append(form);
  key.focus();
}

whenLoggedOut(() => left("The login has ended, or its key has."));
window.addEventListener("hashchange", () => show());

try {
  entered(await ask("GET", "page/session"));
} catch (error) {
  login(error.status === 401 || error.status === 503 ? null : error.message);
}
