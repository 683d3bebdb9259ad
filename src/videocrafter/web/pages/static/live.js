// The page Live: the video follows the prompt while it is typed. The last prompt wins.
import { $, announceError, calm, h } from "/static/dom.js";
import { api, get, newKey, onChange, onProgress } from "/static/api.js";
import { reuse } from "/static/card.js";
import { wordChips } from "/static/words.js";

const PAUSE_MS = 350; // of typing, before a video is asked for
const prompt = $("#prompt");
const seed = $("#seed");
const model = $("#model");
// A new name for each load: two tabs with one name would take each other's place.
let page = newKey();
let models = [];
let asked = null; // the request that the page shows, or waits for
let job = null;
let timer = null;
let sending = 0;
let inFlight = 0; // requests that replace the job, and cancel the one before

const say = (text) => { if ($("#live-state").textContent !== text) $("#live-state").textContent = text; };
const chosen = () => models.find((one) => one.name === model.value);
const wanted = () => ({ prompt: prompt.value.trim(), seed: Math.floor(Number(seed.value)) || 0, model: model.value, preset: chosen().quickest.preset });

// The page may be going away. What is gone already needs no message.
const remove = (path) => fetch(`/api/v1/${path}`, { method: "DELETE", keepalive: true }).catch(() => {});
const cancel = (id) => remove(`jobs/${id}`);

async function send() {
  clearTimeout(timer);
  sessionStorage.setItem("live", JSON.stringify([prompt.value, seed.value, model.value]));
  const request = wanted();
  if (!request.prompt) {
    sending += 1;
    if (job) cancel(job);
    [asked, job] = [null, null];
    $("#stage").replaceChildren();
    return say("Type a prompt, and its video appears here.");
  }
  const text = JSON.stringify(request);
  if (text === asked) return;
  asked = text;
  sending += 1;
  const mine = sending;
  inFlight += 1;
  try {
    const made = await api("PUT", `live/${page}`, request);
    if (mine !== sending) {
      // Either a newer prompt is on its way and takes its place, or nobody wants it any more.
      if (inFlight === 1) cancel(made.id);
      return;
    }
    job = made.id;
    say("Drawing…");
    setTimeout(refresh);
  } catch (error) {
    if (mine !== sending) return;
    asked = null;
    say(error.message);
    // The server is away, or busy: the prompt must not be lost.
    if (error.status === 0 || error.status >= 429) again(2000);
  } finally {
    inFlight -= 1;
  }
}

function again(pause) {
  clearTimeout(timer);
  timer = setTimeout(send, pause);
}

onProgress(({ id, preview }) => {
  if (id !== job || !preview || calm()) return; // previews move
  show(h("img", { src: `/api/v1/jobs/${id}/preview?n=${preview}`, alt: `Preview of ${prompt.value}` }), "load", id);
});

// The picture before stays until the next one can be seen, so that nothing flickers.
function show(element, event, id) {
  element.addEventListener(event, () => { if (id === job) $("#stage").replaceChildren(element); }, { once: true });
}

async function refresh() {
  if (!job || inFlight) return;
  let found;
  try { found = await get(`jobs/${job}`); } catch (error) {
    // It was forgotten, as after a restart of the server.
    if (error.code === "not-found") { asked = null; again(PAUSE_MS); }
    return;
  }
  if (found.id !== job || inFlight) return;
  if (found.state === "done" && found.videos.length) {
    const address = `/api/v1/videos/${found.videos[0]}.mp4`;
    job = null;
    const video = h("video", { src: address, muted: true, loop: true, playsInline: true, autoplay: !calm(), controls: calm(), "aria-label": found.request.prompt });
    video.addEventListener("loadeddata", () => { if (!job) $("#stage").replaceChildren(video); }, { once: true });
    video.load();
    say(`“${found.request.prompt}”`);
  } else if (found.state === "queued") say("Waiting for the queue…");
  else if (found.state === "running") say("Drawing…");
  else if (found.state === "failed") { job = null; say(found.error.message); }
  else if (found.state === "cancelled") { asked = null; again(PAUSE_MS); } // it gave way to the queue
}

async function start() {
  models = (await get("models")).models.filter((one) => one.tasks.includes("t2v"));
  const steps = (one) => one.quickest.num_inference_steps ?? Infinity;
  const best = models.reduce((found, one) => (steps(one) < steps(found) ? one : found));
  model.append(...models.map((one) => h("option", { value: one.name }, one.name)));
  const [text, number, name] = JSON.parse(sessionStorage.getItem("live") ?? "[]");
  model.value = name ?? best.name;
  if (!chosen()) model.value = best.name;
  if (!prompt.value) prompt.value = text ?? "";
  if (number) seed.value = number;
  const drawWords = () => $("#words").replaceChildren(wordChips(chosen().words, prompt));
  drawWords();
  model.addEventListener("change", () => { drawWords(); send(); });
  for (const field of [prompt, seed]) field.addEventListener("input", () => again(PAUSE_MS));
  $("#keep").addEventListener("click", () => { reuse({ ...wanted(), preset: "quality" }); });
  // Nobody looks at it any more.
  addEventListener("pagehide", () => {
    clearTimeout(timer);
    sending += 1;
    // By the page and not by the job: a request that is still on its way has no job yet.
    remove(`live/${page}`);
    [asked, job] = [null, null];
  });
  addEventListener("pageshow", (event) => { if (event.persisted) { page = newKey(); asked = null; send(); } });
  onChange(refresh);
  if (prompt.value.trim()) send();
}

start().catch(announceError);
