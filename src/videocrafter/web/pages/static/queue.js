// The page Queue: order, pause, cancel, retry.
import { $, announceError, calm, duration, h, toast } from "/static/dom.js";
import { api, changed, get, newKey, onChange, onProgress, post } from "/static/api.js";
import { reuse } from "/static/card.js";

let active = [];
let finished = [];
let cursor = null;
let pages = 1;
const bars = new Map();

const button = (label, name, run) => h("button", { type: "button", "aria-label": name, onclick: () => Promise.resolve(run()).then(changed, announceError) }, label);

function thumb(job) {
  const source = job.state === "running" && job.preview && !calm() ? `/api/v1/jobs/${job.id}/preview?n=${job.preview}` : job.videos.length ? `/api/v1/videos/${job.videos[0]}/poster` : null;
  return source ? h("img", { className: "thumb", src: source, alt: "" }) : h("div", { className: "thumb" });
}

function about(job) {
  const { request } = job;
  const parts = [request.model, request.preset, request.num_videos > 1 ? `${request.num_videos} videos` : null, `seed ${request.seed}`];
  return parts.filter(Boolean).join(" · ");
}

function activeRow(job, index, waiting) {
  const prompt = job.request.prompt || "(no prompt)";
  const move = (before) => post(`jobs/${job.id}/move`, { before });
  const place = waiting.indexOf(job);
  const left = job.seconds_left === null ? "" : `, about ${duration(job.seconds_left)} left`;
  const text = job.cancel_requested ? "stopping" : job.state === "running" ? `running${left}` : `waiting, ${job.position} before it${left}`;
  const bar = job.state === "running" ? h("progress", { max: 1, value: job.num_steps ? job.step / job.num_steps : 0, "aria-label": `Progress of ${prompt}` }) : null;
  if (bar) bars.set(job.id, bar);
  return h("li", { "data-job": job.id, tabIndex: -1 }, thumb(job), h("div", {},
    h("p", { className: "text" }, prompt), h("p", { className: "state" }, `${text} · ${about(job)}`), bar,
    ...job.notes.map((note) => h("p", { className: "note" }, note)),
    h("div", { className: "actions" },
      job.state === "queued" && place > 0 ? button("↑", `Move up: ${prompt}`, () => move(waiting[place - 1].id)) : null,
      job.state === "queued" && place < waiting.length - 1 ? button("↓", `Move down: ${prompt}`, () => move(waiting[place + 2]?.id ?? null)) : null,
      job.state === "queued" && place > 0 ? button("First", `Make first: ${prompt}`, () => move(waiting[0].id)) : null,
      job.state === "queued" && job.attempts === 0 ? button("Edit", `Edit: ${prompt}`, () => location.assign(`/?edit=${job.id}`)) : null,
      button("Cancel", `Cancel: ${prompt}`, () => api("DELETE", `jobs/${job.id}`)))));
}

// One key per suggestion until the server has it: sending it again after a lost answer makes no second job.
const keys = new Map();
function suggestion(job, changes) {
  const label = Object.entries(changes).map(([name, value]) => `${name} ${value}`).join(", ");
  const { batch_size: _, ...usable } = changes;
  if (!Object.keys(usable).length) return null;
  const name = `${job.id} ${label}`;
  const one = button(`Try ${label}`, `Try again with ${label}`, async () => {
    if (!keys.has(name)) keys.set(name, newKey());
    one.disabled = true;
    try {
      await post("jobs", { ...job.request, ...usable }, { "Idempotency-Key": keys.get(name) });
      keys.delete(name);
    } catch (problem) {
      one.disabled = false;
      throw problem;
    }
  });
  return one;
}

// Run jobs again in this order, and say how many could not.
async function runAgain(ids) {
  const problems = [];
  for (const id of ids) await post(`jobs/${id}/retry`).catch((problem) => problems.push(problem));
  changed();
  const count = ids.length - problems.length;
  toast(problems.length ? `${count} of ${ids.length} jobs run again. ${problems[0].message}` : count === 1 ? "1 job runs again." : `${count} jobs run again.`);
}

function finishedRow(job) {
  const prompt = job.request.prompt || "(no prompt)";
  const state = job.state === "done" ? `done, ${job.videos.length} video${job.videos.length === 1 ? "" : "s"} in ${duration(job.finished_s - job.started_s)}` : job.state;
  return h("li", { "data-job": job.id, tabIndex: -1 }, thumb(job), h("div", {},
    h("p", { className: "text" }, prompt), h("p", { className: `state ${job.state}` }, `${state} · ${about(job)}`),
    job.error ? h("p", { className: "error" }, job.error.message) : null,
    h("div", { className: "actions" },
      ...(job.error?.suggestions ?? []).map((changes) => suggestion(job, changes)),
      job.state !== "done" ? button("Retry", `Retry: ${prompt}`, () => post(`jobs/${job.id}/retry`)) : null,
      button("Reuse settings", `Reuse settings: ${prompt}`, () => reuse(job.request)),
      button("Remove", `Remove from the list: ${prompt}`, () => api("DELETE", `jobs/${job.id}`)))));
}

function draw(paused) {
  // Drawing anew would take the focus away from a button, so it is given back.
  const focused = document.activeElement?.closest?.("li[data-job]");
  const [focusedJob, focusedAction] = focused ? [focused.dataset.job, document.activeElement.textContent] : [];
  const waiting = active.filter((job) => job.state === "queued");
  bars.clear();
  $("#active").replaceChildren(...(active.length ? active.map((job, index) => activeRow(job, index, waiting)) : [h("li", { className: "hint" }, "Nothing waits.")]));
  $("#finished").replaceChildren(...finished.map(finishedRow));
  if (!finished.length) $("#finished").append(h("li", { className: "hint" }, "Nothing is finished yet."));
  // Nothing to cancel, or to run again: no button that does nothing.
  $("#cancel-all").hidden = !active.length;
  $("#retry-all").hidden = !finished.some((job) => job.state === "failed");
  $("#more").hidden = cursor === null;
  $("#pause").textContent = paused ? "Resume" : "Pause";
  if (focusedJob) {
    // Prompts may be equal, so the job and its action decide. A row whose button is gone takes the focus itself.
    const row = $(`li[data-job="${focusedJob}"]`);
    ([...(row?.querySelectorAll("button") ?? [])].find((one) => one.textContent === focusedAction) ?? row)?.focus();
  }
}

let last = "";
async function refresh() {
  try {
    const [jobs, queue] = await Promise.all([get("jobs"), get("queue")]);
    active = jobs.jobs;
    finished = [];
    cursor = null;
    for (let page = 0; page < pages; page += 1) {
      const found = await get(`jobs?state=finished&limit=60${cursor ? `&after=${encodeURIComponent(cursor)}` : ""}`);
      finished.push(...found.jobs);
      cursor = found.next;
      if (cursor === null) break;
    }
    const now = JSON.stringify([active, finished, queue.paused]);
    if (now !== last) draw(queue.paused);
    last = now;
  } catch { /* the banner tells */ }
}

$("#pause").addEventListener("click", () => post($("#pause").textContent === "Pause" ? "queue/pause" : "queue/resume").then(changed, announceError));
$("#more").addEventListener("click", () => { pages += 1; refresh(); });
$("#cancel-all").addEventListener("click", async () => {
  const ids = active.map((job) => job.id);
  await Promise.all(ids.map((id) => api("DELETE", `jobs/${id}`).catch(() => {})));
  changed();
  if (ids.length) toast(`${ids.length} cancelled.`, { label: "Undo", run: () => runAgain(ids) });
});
$("#retry-all").addEventListener("click", async () => {
  const failed = (await get("jobs?state=failed&limit=200")).jobs;
  await runAgain(failed.reverse().map((job) => job.id));
});

onProgress(({ id, step, num_steps: total, preview }) => {
  const bar = bars.get(id);
  if (bar && total) bar.value = step / total;
  const row = bar?.closest("li");
  if (row && preview && !calm()) $(".thumb", row)?.replaceWith(h("img", { className: "thumb", alt: "", src: `/api/v1/jobs/${id}/preview?n=${preview}` }));
});
onChange(refresh);
