// Requests to the API. Each carries the page's header, without which a login allows nothing that changes anything.

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

let onLoggedOut = () => {};
export function whenLoggedOut(act) {
  onLoggedOut = act;
}

export async function ask(method, path, body) {
  const answer = await send(method, path, body);
  return answer.json().catch(() => ({}));
}

// Asks for lines of JSON, and calls `each` with one after the other. `signal` ends it.
export async function lines(path, body, each, signal) {
  const answer = await send("POST", path, body, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch(() => { throw new Refused(0, "the answer broke off; ask again"); });
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const line of parts) each(JSON.parse(line));
  }
}

async function send(method, path, body, signal) {
  const headers = { "X-Reindexer-Page": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal });
  } catch {
    throw new Refused(0, "the API does not answer");
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    if (answer.status === 401 && path !== "page/session") onLoggedOut();
    throw new Refused(answer.status, told.detail ?? `the API answers ${answer.status}`);
  }
  return answer;
}

export const part = encodeURIComponent;
