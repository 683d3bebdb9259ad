// The HTTP API and its events. Events are hints: every page reads its state again after them.
import { $, announceError, h } from "/static/dom.js";

export class ApiError extends Error {
  constructor(problem, status) {
    super(problem.detail || `The server answered ${status}.`);
    this.code = problem.code;
    this.status = status;
    this.problem = problem;
  }
}

export async function api(method, path, body, headers = {}) {
  const options = { method, headers: { ...headers } };
  if (body instanceof Blob) options.body = body;
  else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(`/api/v1/${path}`, options);
  } catch {
    setConnected(false);
    throw new ApiError({ detail: "The server does not answer. Your text is kept; try again when it is back.", code: "server-gone" }, 0);
  }
  setConnected(true);
  if (response.status === 401) location.assign("/login");
  const answer = response.headers.get("content-type")?.includes("json") ? await response.json() : null;
  if (!response.ok) throw new ApiError(answer || {}, response.status);
  return answer;
}

// A new name: of a request that may be sent twice, or of a page.
export const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");

export const get = (path) => api("GET", path);
export const post = (path, body, headers) => api("POST", path, body ?? {}, headers);

let connected = true;
function setConnected(now) {
  if (now === connected) return;
  connected = now;
  showBanner();
  if (now) changed();
}

let pause = null;
let workerSeen = true;
let workerGoneSince = null;
function showBanner() {
  const banner = $("#banner");
  banner.replaceChildren();
  const workerGone = !workerSeen && Date.now() - workerGoneSince > 10000;
  banner.hidden = connected && !pause && !workerGone;
  if (!connected) banner.append("The server is gone. Nothing is lost: the page continues when it is back.");
  else if (workerGone) banner.append("The worker that makes the videos does not run; it is started again. If this message stays, look at the server's log. Nothing in the queue is lost.");
  else if (pause) {
    banner.append(`Paused: ${pause.message}.`);
    if (pause.reason !== "disk-low") {
      banner.append(h("button", { type: "button", onclick: () => post("queue/resume").then(changed, announceError) }, "Resume"));
    }
  }
}

export function showPause(queue) {
  pause = queue.paused ? queue : null;
  // A worker that has just ended is replaced within seconds, which nobody needs to see.
  if (queue.worker) workerGoneSince = null;
  else if (workerGoneSince === null) { workerGoneSince = Date.now(); setTimeout(changed, 11000); }
  workerSeen = queue.worker;
  const count = $("#waiting");
  count.hidden = !queue.waiting;
  count.textContent = queue.waiting;
  showBanner();
}

// Listeners are called at most four times per second, with progress apart from everything else.
const listeners = new Set();
const progressListeners = new Set();
let scheduled = false;
export function onChange(listener) { listeners.add(listener); listener(); }
export function onProgress(listener) { progressListeners.add(listener); }
export function changed() {
  if (scheduled) return;
  scheduled = true;
  setTimeout(() => {
    scheduled = false;
    for (const listener of listeners) listener();
  }, 250);
}

let source = null;
let polling = null;
function disconnect() {
  source?.close();
  source = null;
  clearInterval(polling);
  polling = null;
}

function connect() {
  disconnect();
  // A browser allows few connections to one server; hidden tabs must not use them up.
  if (document.hidden) return;
  source = new EventSource("/api/v1/events");
  source.onopen = () => {
    setConnected(true);
    clearInterval(polling);
    polling = null;
    changed();
  };
  const mine = source;
  source.onerror = () => {
    if (source !== mine) return;
    if (!polling) polling = setInterval(() => get("queue").then(changed, () => {}), 2000);
    // After an answer such as "too many streams" the browser does not try again by itself.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (source === mine) connect(); }, 5000);
  };
  for (const kind of ["queue", "video", "reset"]) source.addEventListener(kind, changed);
  source.addEventListener("progress", (event) => {
    const data = JSON.parse(event.data);
    for (const listener of progressListeners) listener(data);
  });
}

export function follow() {
  connect();
  // Phones stop connections of pages in the background.
  document.addEventListener("visibilitychange", () => { if (document.hidden) disconnect(); else { connect(); changed(); } });
  addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
  addEventListener("pagehide", disconnect);
}
