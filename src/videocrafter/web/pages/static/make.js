// The page Make: the form, what runs now, and the latest videos.
import { $, announceError, bytes, calm, duration, h, memory, toast } from "/static/dom.js";
import { api, changed, get, newKey, onChange, onProgress, post } from "/static/api.js";
import { card } from "/static/card.js";
import { wordChips } from "/static/words.js";

const MODES = {
  text: ["Text to video", []],
  image: ["Image to video", ["image"]],
  video: ["Change a clip", ["video"]],
  continued: ["Continue a clip", ["continued"]],
  loop: ["Loop", []],
  between: ["In between", ["image", "image_end"]],
};
const PRESETS = [["quality", "Quality"], ["fast", "Fast"], ["draft", "Draft"]];
const FILE_LABELS = { image: "Picture", image_end: "Last picture", video: "Clip to change", continued: "Clip to continue" };
const NUMBERS = [
  ["width", "Width", "Pixels. Far from the model's own size quality drops."],
  ["height", "Height", "Pixels."],
  ["num_frames", "Frames", "More frames make a longer video and take longer."],
  ["fps", "Motion speed (fps)", "Low: more happens between two frames. High: slower, smoother motion."],
  ["playback_fps", "Playback (fps)", "Frames per second of the file. Empty: as the motion speed."],
  ["num_videos", "Videos", "Each has the next seed."],
  ["seed", "Seed", "The same seed and settings make the same video. Empty: random."],
];
const MORE = [
  ["num_inference_steps", "Steps", "More steps, finer detail, more time."],
  ["guidance_scale", "Guidance", "How closely to follow the prompt."],
  ["strength", "Change (0 to 1)", "Only for “Change a clip”: 1 keeps nothing."],
];
const WHOLE = new Set(["width", "height", "num_frames", "num_videos", "seed", "num_inference_steps"]);

const form = $("#form");
const catalogue = await get("models").catch((error) => { announceError(error); return null; });
let files = {};
let editing = null;
let extra = {}; // settings of a reused video that the form does not show
const fields = {};

function field(name, label, hint) {
  const id = `field-${name}`;
  fields[name] = h("input", { id, type: "number", step: WHOLE.has(name) ? 1 : "any", min: 0, inputMode: "decimal", "aria-describedby": `${id}-hint` });
  return h("div", {}, h("label", { htmlFor: id, className: "label" }, label), fields[name], h("p", { id: `${id}-hint`, className: "hint" }, hint));
}

function radios(name, legend, options) {
  return h("fieldset", {}, h("legend", {}, legend), h("div", { className: "tabs" }, ...options.map(([value, label], index) =>
    h("label", {}, h("input", { type: "radio", name, value, checked: index === 0 }), label))));
}

function build() {
  fields.prompt = h("textarea", { id: "prompt", rows: 3, maxLength: 20000, placeholder: "a rocket flying up over a blue sky" });
  fields.batch = h("input", { type: "checkbox", id: "batch" });
  fields.negative_prompt = h("input", { id: "negative", type: "text" });
  fields.model = h("select", { id: "model" }, ...catalogue.models.map((model) => h("option", { value: model.name }, model.name)));
  const loras = catalogue.loras.map((name) => {
    const weight = h("input", { type: "number", step: "0.1", min: -10, max: 10, placeholder: "0 (off)", "data-lora": name, id: `lora-${name}` });
    return h("div", {}, h("label", { htmlFor: `lora-${name}`, className: "label" }, `LoRA ${name}`), weight, h("p", { className: "hint" }, "Weight; 1 is full."));
  });
  form.append(
    radios("mode", "What to make", Object.entries(MODES).map(([value, [label]]) => [value, label])),
    h("div", { id: "inputs" }),
    h("label", { htmlFor: "prompt" }, "Prompt"), fields.prompt,
    h("label", { className: "check" }, fields.batch, h("span", {}, "One video per line")),
    h("div", { id: "words" }),
    radios("preset", "Quality", PRESETS), h("p", { className: "hint", id: "preset-hint" }),
    h("div", { className: "fields" }, h("div", {}, h("label", { htmlFor: "model", className: "label" }, "Model"), fields.model, h("p", { className: "hint", id: "model-hint" })), ...NUMBERS.map((one) => field(...one))),
    h("details", { id: "more" }, h("summary", {}, "More settings"),
      h("label", { htmlFor: "negative", className: "label" }, "Avoid"), fields.negative_prompt, h("p", { className: "hint" }, "What the video should not show."),
      h("div", { className: "fields" }, ...MORE.map((one) => field(...one)), ...loras)),
    h("div", { id: "extra", className: "chips" }),
    h("p", { id: "estimate", role: "status", className: "hint" }),
    h("p", { id: "form-error", role: "alert", className: "error" }),
    h("div", { className: "bar sticky" }, h("button", { className: "primary", id: "submit" }, "Make video"), h("button", { type: "button", id: "clear" }, "Clear"), h("span", { className: "hint" }, "Ctrl+Enter")),
  );
}

const mode = () => form.elements.mode.value;
const model = () => catalogue.models.find((one) => one.name === fields.model.value) || catalogue.models[0];
// A family has another model where a picture is given.
const recommended = () => (MODES[mode()][1].includes("image") && model().with_image) || model();

// The preset that changes nothing. It is not always "Quality", which takes the teacher of a student. Requests leave it
// out, so that it follows the model and the mode.
let ownPreset = "quality";
const chosenPreset = () => (form.elements.preset.value === ownPreset ? undefined : form.elements.preset.value);
function setPreset(name) {
  const { presets } = recommended();
  ownPreset = Object.keys(presets).find((one) => !Object.keys(presets[one]).length) ?? "quality";
  form.elements.preset.value = name ?? ownPreset;
  drawModel();
}

function drawModel() {
  const { words, description } = model();
  const { defaults, presets } = recommended();
  const settings = { ...defaults, ...presets[form.elements.preset.value] };
  for (const name of ["width", "height", "num_frames", "fps", "num_inference_steps", "guidance_scale"]) {
    if (fields[name] && settings[name] !== undefined) fields[name].placeholder = settings[name];
  }
  fields.num_videos.placeholder = 1;
  fields.seed.placeholder = "random";
  $("#model-hint").textContent = description;
  const steps = PRESETS.map(([name, label]) => [label, presets[name].num_inference_steps ?? defaults.num_inference_steps]);
  const known = steps.filter(([, count]) => count !== undefined);
  const isSame = new Set(known.map(([, count]) => count)).size < 2;
  if (isSame) $("#preset-hint").textContent = known.length ? `This model takes ${known[0][1]} steps anyway.` : "";
  else $("#preset-hint").textContent = `${known.map(([label, count]) => `${label}: ${count} steps`).join(", ")}. Fewer are quicker, with less detail.`;
  $("#words").replaceChildren(wordChips(words, fields.prompt));
}

function drawInputs() {
  const wanted = MODES[mode()][1];
  $("#inputs").replaceChildren(...wanted.map((name) => {
    const file = files[name];
    const pick = h("input", { type: "file", accept: name.startsWith("image") ? "image/*" : "video/*,image/gif", id: `pick-${name}` });
    pick.addEventListener("change", () => { if (pick.files[0]) upload(name, pick.files[0]); });
    const shown = file && (file.kind === "image" ? h("img", { src: file.link, alt: `${FILE_LABELS[name]}, chosen` }) : h("video", { src: file.link, muted: true, onerror: (event) => { const other = `/api/v1/videos/${file.id}.mp4`; if (!event.target.src.endsWith(other)) event.target.src = other; }, "aria-label": `${FILE_LABELS[name]}, chosen` }));
    const box = h("div", { className: "input-file" }, shown, h("div", {}, h("label", { htmlFor: `pick-${name}`, className: "label" }, FILE_LABELS[name]), pick,
      h("p", { className: "hint" }, name.startsWith("image") ? "PNG, JPEG or WebP, or drop it here." : "MP4, WebM or GIF, or drop it here.")));
    box.addEventListener("drop", (event) => {
      if (!event.dataTransfer.files.length) return;
      event.preventDefault();
      upload(name, event.dataTransfer.files[0]);
    });
    return box;
  }));
}

async function upload(name, file) {
  try {
    files[name] = await api("POST", "uploads", file);
    drawInputs();
    drawExtra();
    remember();
    estimate();
  } catch (error) { announceError(error); }
}

// Settings that only some ways of making a video take. In others they would be refused.
const NEEDS = {
  strength: () => mode() === "video",
  image_fit: () => "image" in files && MODES[mode()][1].includes("image"),
  image_scale: () => "image" in files && MODES[mode()][1].includes("image"),
  image_guidance_scale: () => "image" in files && MODES[mode()][1].includes("image"),
};
const usable = (request) => Object.fromEntries(Object.entries(request).filter(([name]) => !NEEDS[name] || NEEDS[name]()));

// What the form has no field for is shown and can be taken out, so that nothing acts unseen.
function drawExtra() {
  $("#extra").replaceChildren(...Object.entries(usable(extra)).map(([name, value]) => {
    const text = `${name} ${Array.isArray(value) ? value.join(" to ") : value}`;
    return h("button", { type: "button", className: "chip", "aria-label": `Remove the setting ${text}`, onclick: () => {
      delete extra[name];
      drawExtra();
      if (!editing) remember();
      estimate();
      fields.prompt.focus();
    } }, `${text} ×`);
  }));
}

function read() {
  const request = { ...extra, model: fields.model.value };
  if (chosenPreset()) request.preset = chosenPreset();
  for (const [name] of [...NUMBERS, ...MORE]) {
    delete request[name];
    if (fields[name].value !== "") request[name] = Number(fields[name].value);
  }
  if (fields.negative_prompt.value) request.negative_prompt = fields.negative_prompt.value;
  for (const name of MODES[mode()][1]) if (files[name]) request[name] = files[name].id;
  if (mode() === "loop") request.loop = true;
  const loras = [...form.querySelectorAll("[data-lora]")].filter((one) => Number(one.value)).map((one) => ({ name: one.dataset.lora, weight: Number(one.value) }));
  if (loras.length) request.loras = loras;
  return usable(request);
}

function prompts() {
  const text = fields.prompt.value;
  return fields.batch.checked ? text.split("\n").map((line) => line.trim()).filter(Boolean) : [text.trim()];
}

function fill(request) {
  const shown = new Set([...NUMBERS, ...MORE].map(([name]) => name));
  extra = {};
  for (const [name, value] of Object.entries(request)) {
    if (!shown.has(name) && !["prompt", "negative_prompt", "model", "preset", "loras", "loop", ...Object.keys(FILE_LABELS)].includes(name)) extra[name] = value;
  }
  fields.prompt.value = request.prompt ?? "";
  fields.batch.checked = false;
  fields.negative_prompt.value = request.negative_prompt ?? "";
  fields.model.value = request.model ?? catalogue.models[0].name;
  if (!fields.model.value) {
    fields.model.value = catalogue.models[0].name;
    toast(`The model ${request.model} is not here; ${fields.model.value} takes its place.`);
  }
  for (const { name } of request.loras ?? []) if (!catalogue.loras.includes(name)) toast(`The LoRA ${name} is not here; it is left out.`);
  for (const name of shown) fields[name].value = request[name] ?? "";
  for (const one of form.querySelectorAll("[data-lora]")) one.value = (request.loras ?? []).find((lora) => lora.name === one.dataset.lora)?.weight ?? "";
  files = {};
  for (const name of Object.keys(FILE_LABELS)) {
    if (request[name]) files[name] = { id: request[name], kind: name.startsWith("image") ? "image" : "clip", link: `/api/v1/uploads/${request[name]}` };
  }
  const chosen = request.image_end ? "between" : request.image ? "image" : request.video ? "video" : request.continued ? "continued" : request.loop ? "loop" : "text";
  form.elements.mode.value = chosen;
  setPreset(request.preset);
  drawInputs();
  drawExtra();
  estimate();
}

const remember = () => memory.set("form", { ...read(), prompt: fields.prompt.value, batch: fields.batch.checked, mode: mode(), files });

// A button that changes the settings to some that fit. A job makes one video at a time, so its batch is no setting.
function suggestion({ batch_size: _, ...changes }) {
  const given = Object.entries(changes);
  if (!given.length) return null;
  return h("button", { type: "button", className: "chip", onclick: () => {
    for (const [name, value] of given) if (fields[name]) fields[name].value = value; else extra[name] = value;
    drawExtra();
    if (!editing) remember();
    estimate();
    fields.prompt.focus();
  } }, `Use ${given.map((one) => one.join(" ")).join(", ")}`);
}

let timer = null;
function estimate() {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    const line = $("#estimate");
    if (!fields.prompt.value.trim()) { line.textContent = ""; return; }
    try {
      const found = await post("estimate", { ...read(), prompt: prompts()[0] ?? "" });
      $("#form-error").textContent = "";
      const parts = [];
      if (found.seconds) parts.push(`About ${duration(found.seconds * prompts().length)}`);
      if (found.needed_bytes) parts.push(`needs ${bytes(found.needed_bytes)}${found.available_bytes ? ` of ${bytes(found.available_bytes)} memory` : " of memory"}`);
      if (found.fits === false) parts.push("which is too much: make it smaller or shorter");
      line.replaceChildren(parts.join(", ") + (parts.length ? ". " : ""), ...(found.suggestions ?? []).map(suggestion).filter(Boolean));
      if (found.error) $("#form-error").textContent = found.error;
    } catch (error) {
      line.textContent = "";
      if (error.code !== "server-gone") $("#form-error").textContent = error.message;
    }
  }, 400);
}

// One key per line until the server has it: sending a line again after a lost answer makes no second job.
let submitting = false;
let sent = { text: null, keys: [] };

async function submit(first) {
  if (submitting) return;
  const error = $("#form-error");
  error.textContent = "";
  const lines = prompts();
  if (!lines.length || (!lines[0] && !fields.batch.checked && !MODES[mode()][1].length)) {
    error.textContent = "Write what the video should show.";
    return fields.prompt.focus();
  }
  for (const name of MODES[mode()][1]) {
    if (!files[name]) { error.textContent = `Choose a file for “${FILE_LABELS[name]}”.`; return $(`#pick-${name}`).focus(); }
  }
  const request = read();
  submitting = true;
  $("#submit").disabled = true;
  try {
    if (editing) {
      await api("PUT", `jobs/${editing}`, { ...request, prompt: lines[0] });
      location.assign("/queue");
      return;
    }
    const made = await queueLines(request, lines);
    toast(lines.length > 1 ? `${lines.length} videos are in the queue.` : "The video is in the queue.");
    changed();
    // The jobs are queued: a failed move must not look like a failed submission, which would be repeated.
    if (first) await moveFirst(made).catch((problem) => toast(`The order stays as it was: ${problem.message}`));
  } catch (problem) {
    error.textContent = problem.message;
  } finally {
    submitting = false;
    $("#submit").disabled = false;
  }
}

// Queue each line as a job; return their ids. Lines that are queued leave the form when a later one fails.
async function queueLines(request, lines) {
  const text = JSON.stringify([request, lines]);
  if (sent.text !== text) sent = { text, keys: lines.map(newKey) };
  const made = [];
  try {
    for (const [index, prompt] of lines.entries()) {
      made.push((await post("jobs", { ...request, prompt }, { "Idempotency-Key": sent.keys[index] })).id);
    }
  } catch (problem) {
    if (made.length) {
      const left = lines.slice(made.length);
      sent = { text: JSON.stringify([request, left]), keys: sent.keys.slice(made.length) };
      fields.prompt.value = left.join("\n");
      remember();
      changed();
      problem.message = `${made.length} of ${lines.length} videos are in the queue; the others are still here. ${problem.message}`;
    }
    throw problem;
  }
  sent = { text: null, keys: [] };
  return made;
}

async function moveFirst(made) {
  const next = (await get("jobs")).jobs.find((job) => job.state === "queued" && !made.includes(job.id));
  if (!next) return;
  // One may run already.
  for (const id of made) await post(`jobs/${id}/move`, { before: next.id }).catch((problem) => { if (problem.code !== "job-started") throw problem; });
}

function takeHandedOver() {
  const reuse = sessionStorage.getItem("reuse");
  const input = sessionStorage.getItem("input");
  sessionStorage.removeItem("reuse");
  sessionStorage.removeItem("input");
  if (reuse) fill(JSON.parse(reuse));
  if (input) {
    const file = JSON.parse(input);
    const name = file.kind === "image" ? "image" : "video";
    // The mode that already takes such a file stays, and so does its other file.
    const wanted = MODES[mode()][1];
    const fitting = wanted.filter((one) => one.startsWith("image") === (file.kind === "image"));
    const target = fitting.find((one) => !files[one]) ?? fitting[0] ?? name;
    if (!wanted.includes(target)) {
      form.elements.mode.value = name;
      setPreset(chosenPreset());
    }
    files = { ...files, [target]: file };
    drawInputs();
    drawExtra();
  }
  if (reuse || input) { remember(); fields.prompt.focus(); }
  return reuse || input;
}

async function start() {
  build();
  setPreset();
  drawInputs();
  editing = new URLSearchParams(location.search).get("edit");
  if (editing) {
    try {
      fill((await get(`jobs/${editing}`)).request);
      $("#submit").textContent = "Save changes";
      fields.batch.parentElement.hidden = true; // a job has one prompt
    } catch (error) { announceError(error); editing = null; }
  } else if (!takeHandedOver()) {
    const draft = memory.get("form");
    if (draft) {
      const { batch, mode: chosen, files: kept, ...request } = draft;
      fill(request);
      fields.batch.checked = batch;
      files = kept ?? {};
      form.elements.mode.value = chosen ?? "text";
      setPreset(request.preset);
      drawInputs();
      drawExtra();
    }
  }
  form.addEventListener("input", () => { if (!editing) remember(); estimate(); });
  form.addEventListener("change", (event) => {
    if (event.target.name === "preset") drawModel();
    if (event.target.name !== "mode" && event.target !== fields.model) return;
    setPreset(chosenPreset());
    drawInputs();
    drawExtra();
    if (!editing) remember();
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); submit(false); });
  $("#clear").addEventListener("click", () => { fill({ prompt: "" }); remember(); fields.prompt.focus(); });
  addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key === "Enter" && !$("dialog[open]")) { event.preventDefault(); if (!event.repeat) submit(event.shiftKey); }
  });
  addEventListener("studio:form", takeHandedOver);
}

// What runs, and the newest videos. Elements are kept between updates, so that focus and previews stay.
const nowJobs = new Map();
function drawNow(jobs) {
  const shown = jobs.filter((job) => job.state === "running").concat(jobs.filter((job) => job.state === "queued").slice(0, 3));
  for (const [id, element] of nowJobs) if (!shown.some((job) => job.id === id)) { element.remove(); nowJobs.delete(id); }
  for (const job of shown) {
    let element = nowJobs.get(job.id);
    if (!element) {
      element = h("div", { className: "now", "data-job": job.id },
        h("img", { className: "picture", alt: "", hidden: true }),
        h("div", {}, h("p", { className: "text" }, job.request.prompt || "(no prompt)"), h("progress", { max: 1, value: 0, "aria-label": "Progress" }), h("p", { className: "state" }), h("div", { className: "notes" }),
          h("button", { type: "button", onclick: () => api("DELETE", `jobs/${job.id}`).then(changed, announceError) }, "Cancel")));
      nowJobs.set(job.id, element);
    }
    $("#now").append(element);
    updateProgress({ id: job.id, step: job.step, num_steps: job.num_steps, preview: job.preview });
    const left = job.seconds_left === null ? "" : `, about ${duration(job.seconds_left)} left`;
    $(".state", element).textContent = job.cancel_requested ? "Stopping" : job.state === "running" ? `Running${left}` : `Waiting, ${job.position} before it${left}`;
    $(".notes", element).replaceChildren(...job.notes.map((note) => h("p", { className: "note" }, note)));
  }
  const empty = $("#now > .hint");
  if (shown.length) empty?.remove();
  else if (!empty) $("#now").append(h("p", { className: "hint" }, "Nothing runs. Write a prompt and press “Make video”."));
}

function updateProgress({ id, step, num_steps: total, preview }) {
  const element = nowJobs.get(id);
  if (!element) return;
  const bar = $("progress", element);
  if (total) bar.value = step / total; else bar.removeAttribute("value");
  const picture = $("img", element);
  if (preview && !calm() && picture.dataset.shown !== String(preview)) {
    picture.dataset.shown = preview;
    picture.src = `/api/v1/jobs/${id}/preview?n=${preview}`;
    picture.alt = "Preview of the video that is being made";
    picture.hidden = false;
  }
}

let lastFailed = null;
async function refresh() {
  try {
    const [jobs, latest, failed] = await Promise.all([get("jobs"), get("videos?limit=8"), get("jobs?state=failed&limit=1")]);
    drawNow(jobs.jobs);
    drawLatest(latest.videos);
    const newest = failed.jobs[0];
    if (newest && newest.id !== lastFailed && lastFailed !== null) toast(`Failed: ${newest.error.message}`, { label: "Open queue", run: () => location.assign("/queue") });
    lastFailed = newest?.id ?? "";
  } catch { /* the banner tells */ }
}

const cards = new Map();
function drawLatest(videos) {
  const holder = $("#latest");
  if (!videos.length) { holder.replaceChildren(h("p", { className: "hint" }, "Your videos appear here.")); cards.clear(); return; }
  $(".hint", holder)?.remove();
  for (const [id, element] of cards) if (!videos.some((video) => video.id === id)) { element.remove(); cards.delete(id); }
  videos.forEach((video, index) => {
    if (!cards.has(video.id)) cards.set(video.id, card(video));
    if (holder.children[index] !== cards.get(video.id)) holder.insertBefore(cards.get(video.id), holder.children[index] ?? null);
  });
}

if (catalogue) {
  await start();
  onChange(refresh);
  onProgress(updateProgress);
}
