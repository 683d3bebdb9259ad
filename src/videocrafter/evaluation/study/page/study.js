"use strict";
// The server knows everything: which question comes next, and what was answered. This page shows one question, sends one
// answer, and asks again. Reloading, a second window, or another device therefore always continue at the right place.

const $ = (id) => document.getElementById(id);
const SECTIONS = ["intro", "question", "explained", "thanks"];
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const state = {study: null, token: "", total: 0, next: 0, position: 0, task: null, videos: [], plays: 0, seen: false,
  playing: false, shownAt: 0, request: "", sending: false};

class Refused extends Error {
  constructor(status, code, message) { super(message); this.status = status; this.code = code; }
}

function say(text) { $("status").textContent = text; }

function show(name) {
  for (const one of SECTIONS) $(one).hidden = one !== name;
  if (name !== "question") stop();
  $("progress").hidden = !state.token || name === "intro";
  $("footer").hidden = !state.token;
}

async function ask(method, path, body) {
  // A lost reply is repeated with the same request identifier, which the server recognises.
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try {
      const reply = await fetch(path, {method, cache: "no-store",
        headers: {...(state.token && {Authorization: "Bearer " + state.token}),
          ...(body && {"Content-Type": "application/json"})},
        body: body && JSON.stringify(body)});
      if (reply.status === 204) return null;
      const data = await reply.json();
      if (reply.ok) { say(""); return data; }
      if (reply.status !== 503) throw new Refused(reply.status, data.code, data.message || "The server refused this.");
    } catch (error) {
      if (error instanceof Refused) throw error;
    }
    say("No connection. Trying again; your earlier answers are safe.");
    await new Promise((done) => setTimeout(done, wait));
  }
}

async function begin() {
  stop();
  say("");
  state.token = location.hash.slice(1);
  try {
    state.study = await ask("GET", "api/study");
    document.title = $("title").textContent = state.study.title;
    if (!state.token) return introduce();
    await advance();
  } catch (error) { refused(error); }
}

function introduce() {
  const {consent, minutes, entry} = state.study;
  $("consent").textContent = consent;
  $("effort").textContent = `It takes about ${minutes} minute${minutes === 1 ? "" : "s"}.`;
  show("intro");
  if (entry === "invited" && !state.token) {
    say("This study is by invitation. Use the link that you were sent.");
    $("agree").disabled = true;
  }
}

async function advance() {
  const session = await ask("GET", "api/session");
  Object.assign(state, {total: session.total, next: session.next});
  $("link").value = location.href;
  if (session.finished) {
    $("code").textContent = session.code;
    count(session.total);
    return show("thanks");
  }
  // The first visit with a prepared link: nothing was consented to yet.
  if (session.next === 0 && state.study.entry === "invited" && !state.agreed) return introduce();
  await open(session.next);
}

async function open(position) {
  const task = await ask("GET", `api/tasks/${position}`);
  Object.assign(state, {position, task, plays: 0, seen: false, request: crypto.randomUUID ? crypto.randomUUID() : uuid()});
  count(position);
  draw(task);
  show("question");
  scrollTo(0, 0);
  $("question").focus({preventScroll: true});
  state.shownAt = performance.now();
}

function uuid() { return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join(""); }

function count(done) {
  $("bar").max = state.total;
  $("bar").value = done;
  $("count").textContent = `${Math.min(done + 1, state.total)} of ${state.total}`;
}

function draw(task) {
  $("training").hidden = !task.training;
  $("prompt").textContent = task.prompt;
  $("given").hidden = !task.image;
  if (task.image) $("image").src = task.image;
  const names = task.clips.length === 2 ? ["A", "B"] : [""];
  $("clips").className = names.length === 1 ? "one" : "";
  state.videos = task.clips.map((source, index) => {
    const video = document.createElement("video");
    Object.assign(video, {src: source, muted: true, playsInline: true, preload: "auto"});
    video.setAttribute("aria-label", `Video ${names[index]}: ${task.prompt}`.replace(" :", ":"));
    video.addEventListener("ended", ended);
    video.addEventListener("error", () => say("This video cannot be played in your browser. Please try another one."));
    video.addEventListener("loadedmetadata", () => $("clips").classList.toggle("small", video.videoWidth < 160));
    return video;
  });
  $("clips").replaceChildren(...state.videos.map((video, index) => {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = names[index];
    figure.append(caption, video);
    return figure;
  }));
  $("aspects").replaceChildren(...state.study.aspects.map(aspectFields));
  $("back").disabled = state.position === 0;
  enable();
  if (calm.matches) { state.playing = false; $("play").textContent = "Play"; } else play();
}

function aspectFields(aspect) {
  const pairs = state.study.kind === "pairs";
  const options = pairs ? [["left", "A"], ["equal", "Equal"], ["right", "B"]] : [1, 2, 3, 4, 5].map((n) => [n, String(n)]);
  const set = document.createElement("fieldset");
  const legend = document.createElement("legend");
  const title = document.createElement("b");
  title.textContent = aspect.title;
  legend.append(title, aspect.question);
  const row = document.createElement("div");
  row.className = "options";
  for (const [value, text] of options) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    Object.assign(input, {type: "radio", name: aspect.name, value});
    input.checked = state.task.answer !== null && state.task.answer[aspect.name] === value;
    input.addEventListener("change", enable);
    const shown = document.createElement("span");
    shown.textContent = text;
    label.append(input, shown);
    row.append(label);
  }
  set.append(legend, row);
  if (!pairs) {
    const ends = document.createElement("div");
    ends.className = "ends";
    ends.append(...["1 = bad", "5 = excellent"].map((text) => Object.assign(document.createElement("span"), {textContent: text})));
    set.append(ends);
  }
  return set;
}

// Clips of one question start together and wait for each other at the end.
function play() {
  state.playing = true;
  $("play").textContent = "Pause";
  for (const video of state.videos) { if (video.ended) video.currentTime = 0; }
  Promise.all(state.videos.map((video) => video.play())).catch((error) => {
    if (error.name === "NotAllowedError") pause();
  });
}

function pause() {
  state.playing = false;
  $("play").textContent = "Play";
  for (const video of state.videos) video.pause();
}

function stop() {
  clearTimeout(state.again);
  for (const video of state.videos) { video.pause(); video.removeAttribute("src"); }
  state.videos = [];
  $("clips").replaceChildren();
}

function ended() {
  if (!state.videos.length || !state.videos.every((video) => video.ended)) return;
  state.plays += 1;
  state.seen = true;
  enable();
  clearTimeout(state.again);
  state.again = setTimeout(() => { if (state.playing) play(); }, 400);
}

function chosen() {
  const answer = {};
  for (const input of $("aspects").querySelectorAll("input:checked")) {
    answer[input.name] = state.study.kind === "pairs" ? input.value : Number(input.value);
  }
  return answer;
}

function enable() {
  const watched = state.seen || state.task.answer !== null;
  $("hint").textContent = watched ? "" : "Please watch to the end.";
  for (const input of $("aspects").querySelectorAll("input")) input.disabled = !watched;
  $("next").disabled = state.sending || !watched || Object.keys(chosen()).length < state.study.aspects.length;
}

async function send() {
  if ($("next").disabled) return;
  state.sending = true;
  enable();
  try {
    const reply = await ask("PUT", `api/tasks/${state.position}`, {answer: chosen(), revision: state.task.revision,
      request: state.request, seconds: (performance.now() - state.shownAt) / 1000, plays: state.plays});
    state.next = reply.next;
    if (reply.explanation) {
      $("explanation").textContent = reply.explanation;
      show("explained");
      $("understood").focus();
    } else {
      await onward();
    }
  } catch (error) { await refused(error); } finally {
    state.sending = false;
    enable();
  }
}

// After an earlier question was changed, continue with the one after it.
async function onward() {
  const following = Math.min(state.position + 1, state.next);
  if (following < state.total) await open(following);
  else await advance();
}

async function refused(error) {
  if (!(error instanceof Refused)) throw error;
  if (error.code === "conflict" || error.code === "order") {
    await advance();
    say(error.message);
    return;
  }
  // Withdrawn, full, or a wrong link: nothing else can be done here.
  if (error.code === "withdrawn" || error.code === "unknown") state.token = "";
  show("");
  say(error.message);
}

async function join() {
  $("start").disabled = true;
  try {
    if (!state.token) {
      state.token = (await ask("POST", "api/raters", {consent: true})).token;
      history.replaceState(null, "", "#" + state.token);
    }
    state.agreed = true;
    await advance();
  } catch (error) { await refused(error); }
}

$("agree").addEventListener("change", () => { $("start").disabled = !$("agree").checked; });
$("start").addEventListener("click", join);
$("play").addEventListener("click", () => (state.playing ? pause() : play()));
$("question").addEventListener("submit", (event) => { event.preventDefault(); send(); });
$("back").addEventListener("click", () => open(state.position - 1).catch(refused));
$("understood").addEventListener("click", () => onward().catch(refused));
$("review").addEventListener("click", () => open(state.total - 1).catch(refused));
$("link").addEventListener("focus", () => $("link").select());
$("withdraw").addEventListener("click", () => $("sure").showModal());
$("sure").addEventListener("close", async () => {
  if ($("sure").returnValue !== "yes") return;
  try {
    await ask("DELETE", "api/session");
    throw new Refused(410, "withdrawn", "You have withdrawn, and your answers were deleted.");
  } catch (error) { await refused(error); }
});
addEventListener("hashchange", begin);
addEventListener("pageshow", (event) => { if (event.persisted) begin(); });
document.addEventListener("visibilitychange", async () => {
  if (document.hidden || $("question").hidden || state.sending) return;
  try {
    const task = await ask("GET", `api/tasks/${state.position}`);
    if (task.revision !== state.task.revision) await advance();
  } catch (error) { await refused(error); }
});

document.addEventListener("keydown", (event) => {
  if (!$("keys").checked || event.ctrlKey || event.metaKey || event.altKey || $("question").hidden || $("sure").open) return;
  const field = event.target.closest("input:not([type=radio]), textarea, select, summary");
  if (field) return;
  const on = event.target.closest("button, input");
  const pairs = state.study.kind === "pairs";
  const arrows = {ArrowLeft: "1", ArrowDown: "2", ArrowRight: "3"};
  const digit = pairs && !on && arrows[event.key] ? arrows[event.key] : event.key;
  if (/^[1-5]$/.test(digit)) {
    // The first aspect without an answer; once all have one, the aspect in focus, or the first.
    const sets = [...$("aspects").querySelectorAll("fieldset")];
    const set = sets.find((one) => !one.querySelector("input:checked")) || event.target.closest("fieldset") || sets[0];
    const input = set.querySelectorAll("input")[digit - 1];
    if (input && !input.disabled) { input.checked = true; enable(); }
  } else if (event.key === "Enter" && !(on && on.matches("button"))) {
    send();
  } else if (event.key === " " && !on) {
    $("play").click();
  } else if (event.key === "Backspace" && !$("back").disabled) {
    $("back").click();
  } else {
    return;
  }
  event.preventDefault();
});

function listKeys() {
  const choice = state.study && state.study.kind === "ratings" ? "1 to 5" : "1 A, 2 equal, 3 B (or ←, ↓, →)";
  $("keylist").textContent = `${choice}; Enter next, Backspace back, Space pause or play.`;
}

begin().then(listKeys);
