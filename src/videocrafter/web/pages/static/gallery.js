// The page Gallery: search, stars, bin, selection for comparison.
import { $, announceError, h, memory, toast } from "/static/dom.js";
import { api, changed, get, onChange } from "/static/api.js";
import { card, remove, reuse, showDetails } from "/static/card.js";

const holder = $("#videos");
const filters = $("#filters");
const PAGE = 60;
const MOST_COMPARED = 36;
let cursor = null;
let shown = "";
let shownQuery = null;
let chosen = [];
let loading = false;

function query() {
  const parts = new URLSearchParams();
  if (filters.elements.text.value.trim()) parts.set("text", filters.elements.text.value.trim());
  if (filters.elements.model.value) parts.set("model", filters.elements.model.value);
  for (const name of ["starred", "bin"]) if (filters.elements[name].checked) parts.set(name, "true");
  parts.set("limit", PAGE);
  return parts;
}

function entry(video) {
  const element = card(video, { selected: chosen.includes(video.id) });
  const pick = h("button", { type: "button", className: "quiet pick" });
  const draw = () => {
    const on = chosen.includes(video.id);
    pick.textContent = on ? "✓ Compare" : "Compare";
    pick.setAttribute("aria-pressed", on);
    pick.setAttribute("aria-label", `Compare: ${video.prompt}`);
    element.classList.toggle("selected", on);
  };
  pick.addEventListener("click", () => {
    chosen = chosen.includes(video.id) ? chosen.filter((id) => id !== video.id) : [...chosen, video.id].slice(-MOST_COMPARED);
    draw();
    drawSelection();
  });
  draw();
  element.append(pick);
  element.video = video;
  return element;
}

function drawSelection() {
  const line = $("#selection");
  line.hidden = chosen.length === 0;
  line.replaceChildren(`${chosen.length} chosen.`,
    chosen.length > 1 ? h("a", { className: "button", href: `/compare?ids=${chosen.join(",")}` }, "Compare them") : "Choose one more to compare.",
    h("button", { type: "button", onclick: () => { chosen = []; drawSelection(); shown = ""; reload(); } }, "Clear"));
}

let asked = 0; // an answer to an older question must not replace a newer one

async function reload() {
  asked += 1;
  const question = asked;
  try {
    const text = query().toString();
    let found = await get(`videos?${text}`);
    // As many pages as were scrolled to, so that a change takes nothing away.
    const pages = text === shownQuery ? Math.max(1, Math.ceil(holder.children.length / PAGE)) : 1;
    for (let page = 1; page < pages && found.next !== null; page += 1) {
      const next = await get(`videos?${text}&after=${encodeURIComponent(found.next)}`);
      found = { ...next, videos: [...found.videos, ...next.videos] };
    }
    if (question !== asked) return;
    const ids = found.videos.map((video) => `${video.id}${video.starred}`).join();
    drawModels(found.models);
    if (ids === shown && text === shownQuery && holder.children.length) return;
    shown = ids;
    shownQuery = text;
    cursor = found.next;
    const focused = document.activeElement?.closest?.(".card");
    const place = [...holder.children].indexOf(focused);
    holder.replaceChildren(...found.videos.map(entry));
    // After a deletion the focus goes to the card that takes the place.
    if (focused) ($(`[data-id="${focused.dataset.id}"] .open`, holder) ?? holder.children[Math.min(place, holder.children.length - 1)]?.querySelector(".open"))?.focus();
    const all = !filters.elements.text.value.trim() && !filters.elements.model.value && !filters.elements.starred.checked;
    $("#empty").hidden = found.videos.length > 0;
    $("#empty").replaceChildren(...(filters.elements.bin.checked && all ? ["The bin is empty."] : all ? ["No video here yet. ", h("a", { href: "/" }, "Make the first one"), "."] : ["No video matches. Search with fewer words."]));
    $("#more").hidden = cursor === null;
    $("#empty-bin").hidden = !filters.elements.bin.checked || !found.videos.length;
  } catch { /* the banner tells */ }
}

async function more() {
  if (loading || cursor === null) return;
  loading = true;
  const question = asked;
  try {
    const found = await get(`videos?${query()}&after=${encodeURIComponent(cursor)}`);
    if (question !== asked) return;
    shown += `,${found.videos.map((video) => `${video.id}${video.starred}`).join()}`;
    cursor = found.next;
    holder.append(...found.videos.map(entry));
    $("#more").hidden = cursor === null;
  } catch (error) { announceError(error); } finally { loading = false; }
}

function drawModels(models) {
  const select = filters.elements.model;
  for (const name of models) {
    if (![...select.options].some((option) => option.value === name)) select.append(h("option", { value: name }, name));
  }
}

let timer = null;
filters.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(reload, 250); });
filters.addEventListener("submit", (event) => event.preventDefault());
$("#more").addEventListener("click", more);
$("#empty-bin").addEventListener("click", async () => {
  if (!confirm("Delete all videos in the bin for good? This cannot be undone.")) return;
  try {
    const { removed } = await api("DELETE", "bin");
    toast(`${removed} video${removed === 1 ? "" : "s"} deleted for good.`);
    changed();
  } catch (error) { announceError(error); }
});
new IntersectionObserver((entries) => { if (entries.some((one) => one.isIntersecting)) more(); }, { rootMargin: "600px" }).observe($("#more"));

holder.addEventListener("keydown", (event) => {
  const current = event.target.closest(".card");
  if (!current || event.ctrlKey || event.metaKey || event.altKey) return;
  const all = [...holder.children];
  const index = all.indexOf(current);
  const columns = all.filter((one) => one.offsetTop === all[0].offsetTop).length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
  if (step) {
    event.preventDefault();
    all[index + step]?.querySelector(".open").focus();
  } else if (event.key === "Delete") remove(current.video).catch(announceError);
  else if (!memory.get("singleKeys", true)) return;
  else if (event.key === "s") $(".star", current).click();
  else if (event.key === "i") showDetails(current.video);
  else if (event.key === "r") reuse(current.video.request);
});

onChange(reload);
