// Builds elements, and says times and numbers in words. Text goes in as text: nothing here reads HTML.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function count(value) {
  return value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en");
}

export function counted(value, one) {
  return `${count(value)} ${one}${value === 1 ? "" : "s"}`;
}

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 90) return `${Number(value.toFixed(value < 10 ? 1 : 0))} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  if (value < 129600) return `${Math.round(value / 3600)} h`;
  return `${Math.round(value / 86400)} days`;
}

export function time(text) {
  return text ? new Date(text).toLocaleString() : "–";
}

// columns: [title, (row) => content, class]. The first column names the row.
export function table(caption, columns, rows, nothing) {
  if (!rows.length) return h("p", { class: "faint" }, nothing);
  const head = columns.map(([title, , kind]) => h("th", { scope: "col", class: kind }, title));
  const body = rows.map((row) =>
    h("tr", {}, columns.map(([, content, kind], n) =>
      n ? h("td", { class: kind }, content(row)) : h("th", { scope: "row", class: kind }, content(row)))));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}

export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value ?? "–")]));
}

export function say(text) {
  const place = document.getElementById("said");
  place.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { place.textContent = ""; }, 8000);
}

// Replaces an element's content, and keeps the focus on what has the same `data-keep`.
export function fill(place, ...children) {
  const kept = place.contains(document.activeElement) ? document.activeElement.dataset.keep : null;
  const scrolled = [...place.querySelectorAll(".scroll")].map((each) => [each.getAttribute("aria-label"), each.scrollLeft]);
  place.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  for (const each of place.querySelectorAll(".scroll")) {
    each.scrollLeft = scrolled.find(([name]) => name === each.getAttribute("aria-label"))?.[1] ?? 0;
  }
  if (kept) place.querySelector(`[data-keep="${CSS.escape(kept)}"]`)?.focus();
}

// Asks before something is done. Resolves to the values of the boxes, or to null if it is not wanted.
export function confirm(title, texts, { act, boxes = {} } = {}) {
  return new Promise((resolve) => {
    const inputs = Object.entries(boxes).map(([name, label]) => [name, h("input", { type: "checkbox", name }), label]);
    const dialog = h("dialog", { "aria-labelledby": "asked" },
      h("h2", { id: "asked" }, title),
      texts.map((text) => h("p", {}, text)),
      inputs.map(([, input, label]) => h("label", { class: "check" }, input, label)),
      h("div", { class: "buttons" },
        h("button", { type: "button", class: "main", onclick: () => dialog.close("yes") }, act),
        h("button", { type: "button", onclick: () => dialog.close("no") }, "Do nothing")));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes"
        ? Object.fromEntries(inputs.map(([name, input]) => [name, input.checked])) : null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
