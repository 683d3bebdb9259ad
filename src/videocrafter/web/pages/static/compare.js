// The page Compare: videos in step by one clock.
import { $, announceError, calm, h } from "/static/dom.js";
import { get } from "/static/api.js";
import { player } from "/static/card.js";

const ids = (new URLSearchParams(location.search).get("ids") || "").split(",").filter((id) => /^[0-9a-f]{32}$/.test(id)).slice(0, 9);

async function start() {
  const videos = await Promise.all(ids.map((id) => get(`videos/${id}`)));
  $("#intro").hidden = true;
  $("#stage").hidden = false;
  const players = videos.map((video) => {
    const element = player(video);
    element.loop = false;
    element.autoplay = false;
    element.preload = "auto";
    return element;
  });
  $("#players").append(...videos.map((video, index) => h("article", { className: "card" }, players[index], h("p", {}, `${video.prompt} · ${video.model} · seed ${video.request.seed}`))));
  drawDifference(videos);
  await Promise.all(players.map((one) => new Promise((resolve) => { if (one.readyState >= 2) resolve(); else one.addEventListener("loadeddata", resolve, { once: true }); })));
  clock(players, videos);
}

// All players show the same moment. The clock is ours: a player that is off by more than half a frame is moved.
function clock(players, videos) {
  const frame = 1 / Math.max(...videos.map((video) => video.playback_fps));
  const length = Math.max(...players.map((one) => one.duration));
  let time = 0;
  let playing = !calm();
  let before = performance.now();
  const show = () => {
    for (const one of players) {
      const target = Math.min(time, Math.max(0, one.duration - frame / 2));
      if (playing && one.paused && time < one.duration - frame) one.play().catch(() => {});
      if (!playing && !one.paused) one.pause();
      if (Math.abs(one.currentTime - target) > frame / 2 && !one.seeking) one.currentTime = target;
    }
    $("#position").value = Math.round((time / length) * 1000);
    $("#frame").textContent = `frame ${Math.floor(time / frame + 1e-6) + 1}`;
    $("#play").textContent = playing ? "Pause" : "Play";
  };
  const tick = (now) => {
    if (playing) {
      time += (now - before) / 1000;
      if (time >= length) { time = 0; for (const one of players) one.currentTime = 0; }
      show();
    }
    before = now;
    requestAnimationFrame(tick);
  };
  const toggle = () => { playing = !playing; show(); };
  const step = (frames) => {
    playing = false;
    time = Math.min(length - frame / 2, Math.max(frame / 2, (Math.floor(time / frame + 1e-6) + frames + 0.5) * frame));
    show();
  };
  $("#play").addEventListener("click", toggle);
  $("#back").addEventListener("click", () => step(-1));
  $("#forward").addEventListener("click", () => step(1));
  $("#position").addEventListener("input", (event) => { playing = false; time = (event.target.value / 1000) * length; show(); });
  addEventListener("keydown", (event) => {
    if (event.target.closest("input, textarea, select, button, a")) return;
    if (event.key === " ") { event.preventDefault(); toggle(); }
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  window.studioClock = { time: () => time, frame, drift: () => Math.max(...players.map((one) => one.currentTime)) - Math.min(...players.map((one) => one.currentTime)) };
  show();
  requestAnimationFrame(tick);
}

function drawDifference(videos) {
  const names = [...new Set(videos.flatMap((video) => Object.keys(video.recording)))].filter((name) => name !== "versions");
  const text = (value) => (value === undefined || value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));
  const different = names.filter((name) => new Set(videos.map((video) => text(video.recording[name]))).size > 1);
  $("#difference").append(...(different.length ? different.map((name) => h("tr", {}, h("th", { scope: "row" }, name), ...videos.map((video) => h("td", {}, text(video.recording[name]))))) : [h("tr", {}, h("td", {}, "All settings are equal."))]));
}

if (ids.length > 1) start().catch(announceError);
