// The stream of overviews: one for the page, closed while nobody sees it, as browsers allow few streams a host.

let stream = null;
let latest = null;
const readers = new Set();
let ended = () => {};

export function start(onEnded) {
  ended = onEnded;
  open();
}

export function stop() {
  stream?.close();
  stream = null;
  latest = null;
}

// Calls `read` with each overview, first with the one that is known. Returns what ends that.
export function read(reader) {
  readers.add(reader);
  if (latest) reader(latest);
  return () => readers.delete(reader);
}

export function now() {
  return latest;
}

function open() {
  stream?.close();
  stream = new EventSource("page/overview");
  stream.addEventListener("message", (event) => {
    latest = JSON.parse(event.data);
    tell(latest, true);
  });
  stream.addEventListener("ended", () => { stop(); ended(); });
  stream.addEventListener("error", () => {
    if (latest) tell(latest, false);
    // A refusal closes the stream for good: the login may have ended.
    if (stream?.readyState === EventSource.CLOSED) ended();
  });
}

function tell(overview, fresh) {
  for (const reader of readers) reader(overview, fresh);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden && stream) {
    stream.close();
  } else if (!document.hidden && stream) {
    open();
  }
});
