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
  const headers = { "X-Reindexer-Page": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Refused(0, "the API does not answer");
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    if (answer.status === 401 && path !== "page/session") onLoggedOut();
    throw new Refused(answer.status, told.detail ?? `the API answers ${answer.status}`);
  }
  return told;
}

export const part = encodeURIComponent;
