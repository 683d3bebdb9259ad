// What all pages share: navigation, theme, keys, events, and files that are dropped anywhere.
import { $, announceError, h, memory, toast } from "/static/dom.js";
import { api, follow, get, onChange, showPause } from "/static/api.js";

const page = document.documentElement.dataset.page;

for (const link of document.querySelectorAll("nav a")) {
  const target = link.getAttribute("href").slice(1) || "make";
  if (target === page) link.setAttribute("aria-current", "page");
}

$("#theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
});

const KEYS = [
  ["Ctrl+Enter", "make the video"],
  ["Ctrl+Shift+Enter", "make it first"],
  ["Ctrl+Alt+Enter", "cancel the running job"],
  ["g then m, q, g, l, t", "open Make, Queue, Gallery, Live, Train"],
  ["Arrows, Enter", "move in the gallery, open a video"],
  ["S, R, Delete", "star, reuse settings, delete a video"],
  ["Space, ← →, D, J, K", "play, step, difference, next and previous prompt on the Compare page"],
  ["?", "this list"],
];

$("#help").addEventListener("click", () => {
  const single = h("input", { type: "checkbox", checked: memory.get("singleKeys", true) });
  single.addEventListener("change", () => memory.set("singleKeys", single.checked));
  const close = h("button", { type: "button", className: "primary", onclick: () => dialog.close() }, "Close");
  const dialog = h("dialog", { "aria-label": "Keyboard shortcuts", onclose: () => dialog.remove() },
    h("h2", {}, "Keyboard shortcuts"),
    h("table", {}, ...KEYS.map(([keys, what]) => h("tr", {}, h("th", { scope: "row" }, h("kbd", {}, keys)), h("td", {}, what)))),
    h("p", {}, h("label", { className: "check" }, single, h("span", {}, "Single keys are shortcuts"))), close);
  document.body.append(dialog);
  dialog.showModal();
});

export const inField = (event) => event.target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable]");

let leader = false;
addEventListener("keydown", (event) => {
  if (inField(event) || event.ctrlKey || event.metaKey || event.altKey || !memory.get("singleKeys", true)) return;
  if (event.key === "?") $("#help").click();
  else if (leader) {
    const target = { m: "/", q: "/queue", g: "/gallery", l: "/live", t: "/train" }[event.key];
    leader = false;
    if (target) location.assign(target);
  } else if (event.key === "g") {
    leader = true;
    setTimeout(() => { leader = false; }, 1500);
  }
});

addEventListener("keydown", async (event) => {
  if (!(event.ctrlKey || event.metaKey) || !event.altKey || event.key !== "Enter") return;
  event.preventDefault();
  const running = (await get("jobs")).jobs.find((job) => job.state === "running");
  if (running) api("DELETE", `jobs/${running.id}`).catch(announceError);
});

// Files dropped anywhere: first our own recordings, then inputs.
const drop = $("#drop");
let depth = 0;
addEventListener("dragenter", (event) => {
  if (![...event.dataTransfer.types].includes("Files")) return;
  depth += 1;
  drop.hidden = false;
});
addEventListener("dragleave", () => { depth = Math.max(0, depth - 1); drop.hidden = depth === 0; });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  const taken = event.defaultPrevented; // by a field that the file was dropped on
  event.preventDefault();
  depth = 0;
  drop.hidden = true;
  if (!taken && event.dataTransfer.files.length) receive(event.dataTransfer.files[0]);
});

async function receive(file) {
  try {
    const found = await api("POST", "recordings", file);
    sessionStorage.setItem("reuse", JSON.stringify(found.request));
    for (const note of found.notes) toast(note);
    toast("The settings of this file are in the form.");
    openForm();
  } catch (error) {
    // Only a file without our settings is an input; others are refused for a reason that the user must see.
    if (error.code !== "no-recording" && error.code !== "broken-file") return announceError(error);
    try {
      const upload = await api("POST", "uploads", file);
      sessionStorage.setItem("input", JSON.stringify(upload));
      toast(upload.kind === "image" ? "The picture is the input." : "The clip is the input.");
      openForm();
    } catch (second) {
      announceError(second);
    }
  }
}

function openForm() {
  if (page === "make") dispatchEvent(new Event("studio:form"));
  else location.assign("/");
}

onChange(() => get("queue").then(showPause, () => {}));
follow();
import(`/static/${page}.js`);
