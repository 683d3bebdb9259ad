// The page Live: the video follows the prompt while it is typed. The last prompt wins.
import { $, announceError, calm, h } from "/static/dom.js";
import { api, get, onChange, onProgress } from "/static/api.js";
import { reuse } from "/static/card.js";
import { wordChips } from "/static/words.js";

const prompt = $("#prompt");
const seed = $("#seed");
let page = sessionStorage.getItem("live");
if (!page) {
  page = [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");
  sessionStorage.setItem("live", page);
}
let job = null;
let timer = null;

get("models").then(({ models }) => $("#words").append(wordChips(models[0].words, prompt)), announceError);

const request = () => ({ prompt: prompt.value.trim(), seed: Number(seed.value) || 0, preset: "draft", num_inference_steps: 4 });

async function send() {
  if (!prompt.value.trim()) return;
  try {
    job = (await api("PUT", `live/${page}`, request())).id;
    $("#live-state").textContent = "Drawing…";
  } catch (error) { announceError(error); }
}

function later() { clearTimeout(timer); timer = setTimeout(send, 350); }
prompt.addEventListener("input", later);
seed.addEventListener("input", later);
$("#keep").addEventListener("click", () => reuse({ prompt: prompt.value, seed: Number(seed.value) || 0 }));

onProgress(({ id, preview }) => {
  if (id !== job || !preview || calm()) return; // previews move
  $("#stage").replaceChildren(h("img", { src: `/api/v1/jobs/${id}/preview?n=${preview}`, alt: `Preview of ${prompt.value}` }));
});

onChange(async () => {
  if (!job) return;
  try {
    const found = await get(`jobs/${job}`);
    if (found.id !== job) return;
    if (found.state === "done" && found.videos.length) {
      const address = `/api/v1/videos/${found.videos[0]}.mp4`;
      if ($("#stage video")?.getAttribute("src") === address) return;
      $("#stage").replaceChildren(h("video", { src: address, muted: true, loop: true, playsInline: true, autoplay: !calm(), controls: calm(), "aria-label": found.request.prompt }));
      $("#live-state").textContent = `“${found.request.prompt}”`;
    } else if (found.state === "queued") $("#live-state").textContent = "Waiting for the queue…";
    else if (found.state === "failed") $("#live-state").textContent = found.error.message;
    else if (found.state === "cancelled") later();
  } catch { /* replaced by a newer prompt */ }
});
