// The page Compare: queue the empty cells of a grid, or a new grid. A script of the comparison page plays the videos.
import { $, announceError, h, memory } from "/static/dom.js";
import { get, newKey, onChange, post } from "/static/api.js";

const MOST = 64;
const address = new URLSearchParams(location.search);
const data = JSON.parse($("#data").textContent);
const shown = data.rows.flatMap((row) => row.cells).filter(Boolean).length;
let jobs = data.jobs;

// The key of each request, and its job once the server has it: sending a request again makes no second job.
const sent = new Map();
async function queue(request) {
  const text = JSON.stringify(request);
  if (!sent.has(text)) sent.set(text, { key: newKey(), job: null });
  const one = sent.get(text);
  one.job ??= (await post("jobs", request, { "Idempotency-Key": one.key })).id;
  return one.job;
}

// Queue requests as jobs, and show them. Those that are queued stay in the address when a later one is refused.
async function make(requests) {
  try {
    for (const request of requests) jobs = [...new Set([...jobs, await queue(request)])];
  } finally {
    address.set("jobs", jobs.join());
    history.replaceState(null, "", `/compare?${address}`);
  }
  location.reload();
}

async function watch() {
  if (!jobs.length) return;
  const found = await Promise.all(jobs.map((id) => get(`jobs/${id}`).catch((error) => (error.code === "not-found" ? { state: "done", videos: [] } : null))));
  if (found.includes(null)) return; // the banner tells
  const waiting = found.filter((job) => job.state === "queued" || job.state === "running").length;
  const failed = found.filter((job) => job.state === "failed");
  // Videos that the server left out of the page stay out when it is loaded again.
  const fresh = found.flatMap((job) => job.videos).filter((id) => !data.considered.includes(id));
  const ready = fresh.length;
  if (ready && (!waiting || !shown) && sessionStorage.getItem("reloaded-for") !== fresh.join()) {
    sessionStorage.setItem("reloaded-for", fresh.join());
    return location.reload();
  }
  $("#pending").hidden = !waiting && !failed.length;
  $("#pending-state").textContent = [
    waiting ? `${waiting} of ${jobs.length} videos are still to be made.` : "",
    failed.length ? `${failed.length} failed: ${failed[0].error.message}` : "",
  ].join(" ");
  $("#show").hidden = !ready;
  $("#show").textContent = `Show ${ready} more`;
}

$("#show").addEventListener("click", () => location.reload());

if (data.gone) {
  $("#gone").hidden = false;
  $("#gone").textContent = data.gone === 1 ? "One video of this comparison was removed." : `${data.gone} videos of this comparison were removed.`;
}

if (shown) {
  const count = jobs.length ? 0 : data.empty;
  if (count) {
    $("#empty-cells").hidden = false;
    $("#empty-cells").append(count === 1 ? "One cell has no video." : `${count} cells have no video.`, data.missing.length === 0
      ? ` They cannot be made here: with them, the page would have ${shown + count} videos, and it shows at most ${MOST}. Choose fewer videos, or videos with the same prompts or settings.`
      : h("button", { type: "button", onclick: (event) => { event.target.disabled = true; make(data.missing).catch((error) => { event.target.disabled = false; announceError(error); }); } }, count === 1 ? "Make it" : "Make them"));
  }
  // One switch for single keys in the whole studio.
  $("#keys").checked = memory.get("singleKeys", true);
  $("#keys").addEventListener("change", () => memory.set("singleKeys", $("#keys").checked));
} else $("#builder").open = true;

function choices(name, legend, values, chosen) {
  return h("fieldset", {}, h("legend", {}, legend), h("div", { className: "tabs" }, ...values.map(([value, label]) =>
    h("label", {}, h("input", { type: "checkbox", name, value, checked: chosen.includes(value) }), label))));
}

const numbers = (field) => field.value.split(",").map((one) => one.trim()).filter(Boolean).map(Number);
const checked = (name) => [...document.querySelectorAll(`#grid [name=${name}]:checked`)].map((one) => one.value);

function columns() {
  const settings = [["model", checked("model")], ["preset", checked("preset")], ["guidance_scale", numbers($("#grid-guidance"))], ["num_inference_steps", numbers($("#grid-steps"))]];
  return settings.filter(([, values]) => values.length).reduce((found, [name, values]) => found.flatMap((one) => values.map((value) => ({ ...one, [name]: value }))), [{}]);
}

function requests() {
  const prompts = [...new Set($("#grid-prompts").value.split("\n").map((line) => line.trim()).filter(Boolean))];
  return prompts.flatMap((prompt) => columns().map((column) => ({ ...column, prompt, seed: Number($("#grid-seed").value) || 0 })));
}

function drawCount() {
  const count = requests().length;
  $("#grid-make").textContent = count ? `Make ${count} video${count === 1 ? "" : "s"}` : "Compare";
}

$("#grid").addEventListener("input", drawCount);
$("#grid").addEventListener("submit", async (event) => {
  event.preventDefault();
  const all = requests();
  const error = $("#grid-error");
  error.textContent = "";
  if (!all.length) { error.textContent = "Write at least one prompt."; return $("#grid-prompts").focus(); }
  if (all.length > MOST) { error.textContent = `These are ${all.length} videos; one page compares at most ${MOST}. Choose fewer prompts or settings.`; return; }
  if (all.some((one) => Object.values(one).some(Number.isNaN))) { error.textContent = "Write numbers with commas between them, such as 2, 4, 8."; return; }
  for (const name of ["ids", "jobs"]) address.delete(name);
  jobs = [];
  $("#grid-make").disabled = true;
  try { await make(all); } catch (problem) { error.textContent = problem.message; } finally { $("#grid-make").disabled = false; }
});

const { models } = await get("models").catch((error) => { announceError(error); return { models: [] }; });
const usable = models.filter((model) => model.tasks.includes("t2v")).map((model) => [model.name, model.name]);
$("#grid-columns").append(
  choices("model", "Models", usable, usable.slice(0, 1).map(([name]) => name)),
  choices("preset", "Quality", [["quality", "Quality"], ["fast", "Fast"], ["draft", "Draft"]], ["quality", "draft"]));
drawCount();
onChange(watch);
