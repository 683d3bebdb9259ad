// A video as a card, and its details.
import { $, announceError, bytes, calm, duration, h, toast } from "/static/dom.js";
import { api, changed, get, post } from "/static/api.js";

const title = (video) => video.prompt || "(no prompt)";
const when = (seconds) => new Date(seconds * 1000).toLocaleString();

export function player(video, { controls = false } = {}) {
  const element = h("video", {
    src: video.links.mp4, poster: video.links.poster, muted: true, loop: true, playsInline: true, controls,
    "aria-label": `${title(video)}, ${(video.num_frames / video.playback_fps).toFixed(1)} seconds`,
  });
  if (!calm()) element.autoplay = true;
  return element;
}

export function card(video, { onopen = showDetails, selected = false } = {}) {
  const still = h("img", { src: video.links.poster, alt: "", loading: "lazy" });
  const open = h("button", { type: "button", className: "open", "aria-label": `Open: ${title(video)}` }, still, h("p", {}, title(video)));
  const star = starButton(video);
  const element = h("article", { className: `card${selected ? " selected" : ""}`, "data-id": video.id }, open, star);
  open.addEventListener("click", () => onopen(video));
  // Play on hover and on focus. A poster takes less memory than a player, so only one card plays.
  const play = () => {
    if (calm() || element.querySelector("video")) return;
    const moving = player(video);
    still.replaceWith(moving);
    moving.play().catch(() => {});
  };
  const stop = () => element.querySelector("video")?.replaceWith(still);
  element.addEventListener("mouseenter", play);
  element.addEventListener("mouseleave", stop);
  open.addEventListener("focus", play);
  open.addEventListener("blur", stop);
  return element;
}

function starButton(video) {
  const button = h("button", { type: "button", className: "star" });
  const draw = () => {
    button.textContent = video.starred ? "★" : "☆";
    button.setAttribute("aria-pressed", video.starred);
    button.setAttribute("aria-label", video.starred ? "Remove the star" : "Star");
  };
  button.addEventListener("click", async (event) => {
    event.stopPropagation();
    try {
      video.starred = (await api("PATCH", `videos/${video.id}`, { starred: !video.starred })).starred;
      draw();
    } catch (error) { announceError(error); }
  });
  draw();
  return button;
}

export function reuse(request) {
  sessionStorage.setItem("reuse", JSON.stringify(request));
  location.assign("/");
}

export async function remove(video) {
  if (video.deleted) return removeForGood(video);
  await api("DELETE", `videos/${video.id}`);
  toast("The video is in the bin.", { label: "Undo", run: () => post(`videos/${video.id}/restore`).then(changed, announceError) });
  changed();
  return true;
}

// Both removals return whether the video is gone.
async function removeForGood(video) {
  if (!confirm("Delete this video for good? This cannot be undone.")) return false;
  await api("DELETE", `videos/${video.id}?for_good=true`);
  changed();
  return true;
}

export async function showDetails(video) {
  let full;
  try { full = await get(`videos/${video.id}`); } catch (error) { return announceError(error); }
  const rows = Object.entries(full.recording).filter(([, value]) => value !== null && value !== "" && !(Array.isArray(value) && !value.length));
  const link = (label, address) => h("a", { className: "button", href: address, download: "" }, label);
  const button = (label, run) => h("button", { type: "button", onclick: run }, label);
  const { seed: _, ...withoutSeed } = full.request;
  const dialog = h("dialog", { "aria-label": title(full), onclose: () => dialog.remove() },
    h("div", { className: "bar" }, h("h2", { className: "grow" }, title(full)), button("Close", () => dialog.close())),
    h("div", { className: "details" },
      h("div", {}, (() => { const shown = player(full, { controls: true }); shown.classList.add("picture"); return shown; })(),
        h("p", { className: "hint" }, `${full.num_frames} frames, ${full.width}×${full.height}, made ${when(full.created_s)} in ${duration(full.seconds)}, ${bytes(full.num_bytes)}`),
        h("div", { className: "bar" },
          button("Reuse settings", () => reuse(full.request)),
          button("Reuse without seed", () => reuse(withoutSeed)),
          button("Use as input", () => { sessionStorage.setItem("input", JSON.stringify({ id: full.id, kind: "clip", link: full.links.mp4 })); location.assign("/"); }),
          full.deleted ? button("Restore", () => post(`videos/${full.id}/restore`).then(() => { dialog.close(); changed(); }, announceError)) : null,
          button(full.deleted ? "Delete for good" : "Delete", () => remove(full).then((gone) => { if (gone) dialog.close(); }, announceError))),
        h("p", { className: "label" }, "Download"),
        h("div", { className: "bar" }, link("MP4", `${full.links.mp4}?download=1`), link("GIF", full.links.gif), link("PNG", full.links.frames), link("JSON", full.links.recording))),
      h("div", { className: "scroll" }, h("table", {}, h("caption", { className: "label" }, "Settings"),
        ...rows.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, typeof value === "object" ? JSON.stringify(value) : String(value))))))));
  document.body.append(dialog);
  dialog.showModal();
}
