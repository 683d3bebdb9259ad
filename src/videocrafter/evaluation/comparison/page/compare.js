"use strict";
// One clock: every canvas shows the frame of the same moment, drawn in the same animation frame. Nothing can drift.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const players = [];  // {canvas, cell, visible, shown, pictures, other}
const cells = data.rows.flatMap((row) => row.cells.filter((cell) => cell && cell.frames));
const duration = Math.max(0.001, ...cells.map((cell) => cell.frames / cell.fps));
const rate = Math.max(1, ...cells.map((cell) => cell.fps));
const steps = Math.max(1, Math.round(duration * rate));
const clock = {time: 0, playing: false, speed: 1, before: null};

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// The small addend keeps 3 × (1/3 s) from being frame 0.99.
const frameAt = (cell, time) => Math.min(cell.frames - 1, Math.floor(time * cell.fps + 1e-6));

function load(cell) {
  cell.images ||= cell.pictures.map((name) => {
    const image = new Image();
    image.onload = () => { image.ready = true; paint(true); };
    image.src = data.files[name];
    return image;
  });
}

function drawFrame(context, cell, index, width, height) {
  const image = cell.images && cell.images[Math.floor(index / cell.tiles)];
  if (!image || !image.ready) return false;
  const tile = index % cell.tiles;
  context.drawImage(image, (tile % cell.across) * cell.width, Math.floor(tile / cell.across) * cell.height,
    cell.width, cell.height, 0, 0, width, height);
  return true;
}

function paint(always) {
  for (const player of players) {
    if (!player.visible || player.canvas.closest("[hidden]")) continue;
    const index = frameAt(player.cell, clock.time);
    const other = player.other ? frameAt(player.other, clock.time) : 0;
    const key = `${index}/${other}`;
    if (!always && key === player.key) continue;
    const {canvas} = player;
    const context = canvas.getContext("2d");
    context.globalCompositeOperation = "source-over";
    let drawn = drawFrame(context, player.cell, index, canvas.width, canvas.height);
    if (player.other) {
      context.globalCompositeOperation = "difference";
      drawn = drawFrame(context, player.other, other, canvas.width, canvas.height) && drawn;
    }
    if (drawn) {
      player.key = key;
      canvas.dataset.frame = index;
    }
  }
  const step = Math.min(steps - 1, Math.floor(clock.time * rate + 1e-6));
  if (document.activeElement !== $("frame") || clock.playing) $("frame").value = step;
  $("shown").textContent = `${step + 1} of ${steps}`;
}

function tick(now) {
  if (clock.playing) {
    if (clock.before !== null) clock.time = (clock.time + clock.speed * (now - clock.before) / 1000) % duration;
    clock.before = now;
    paint(false);
  }
  requestAnimationFrame(tick);
}

function play(on) {
  clock.playing = on;
  clock.before = null;
  $("play").textContent = on ? "Pause" : "Play";
}

function go(step) {
  play(false);
  clock.time = (((step % steps) + steps) % steps + 0.5) / rate;
  paint(false);
}

const step = () => Math.floor(clock.time * rate + 1e-6);

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const player = players.find((one) => one.canvas === entry.target);
    player.visible = entry.isIntersecting;
    if (!player.visible) continue;
    load(player.cell);
    if (player.other) load(player.other);
  }
  paint(true);
}, {rootMargin: "300px"});

function player(cell, label, other) {
  const canvas = element("canvas", {width: cell.width, height: cell.height});
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  players.push({canvas, cell, other, visible: false, key: ""});
  seen.observe(canvas);
  return canvas;
}

const number = (value) => (Number.isInteger(value) ? String(value) : value.toPrecision(4));

function figure(row, index) {
  const name = data.columns[index];
  const cell = row.cells[index];
  const caption = element("figcaption", {}, element("b", {textContent: name}));
  if (!cell) return element("figure", {}, element("div", {className: "missing", textContent: "no video"}), caption);
  if (cell.seed !== null && cell.seed !== row.seed) caption.append(element("mark", {textContent: `seed ${cell.seed}`}));
  if (cell.error) return element("figure", {}, element("div", {className: "missing", textContent: cell.error}), caption);
  caption.append(element("span", {className: "quiet",
    textContent: ` ${cell.shape}, ${cell.frames} frame${cell.frames === 1 ? "" : "s"}, ${number(cell.fps)} per s`}));
  const metrics = Object.entries(cell.metrics);
  if (metrics.length) {
    caption.append(element("dl", {}, ...metrics.flatMap(([key, value]) =>
      [element("dt", {textContent: key}), element("dd", {textContent: number(value)})])));
  }
  const canvas = player(cell, `${name}: ${row.prompt}`);
  return element("figure", {className: Math.max(cell.width, cell.height) <= 160 ? "small" : ""}, canvas, caption);
}

function build() {
  $("title").textContent = data.title;
  const rows = data.rows.length;
  $("about").textContent = `${rows} prompt${rows === 1 ? "" : "s"}, ${data.columns.length} columns, ${duration.toFixed(2)} s.`;
  $("frame").max = steps - 1;
  for (const [index, name] of data.columns.entries()) {
    $("first").append(element("option", {value: index, textContent: name}));
    $("second").append(element("option", {value: index, textContent: name}));
  }
  $("second").value = Math.min(1, data.columns.length - 1);
  $("rows").append(...data.rows.map((row) => {
    const list = element("div", {className: "cells"});
    if (row.image) {
      const image = element("img", {src: data.files[row.image], alt: "Input image", loading: "lazy"});
      image.onload = () => image.classList.toggle("small", image.naturalWidth <= 160);
      list.append(element("figure", {}, image, element("figcaption", {}, element("b", {textContent: "input image"}))));
    }
    list.append(...data.columns.map((_, index) => figure(row, index)));
    const heading = element("h2", {textContent: row.prompt, tabIndex: -1});
    if (row.seed !== null) heading.append(element("span", {className: "quiet", textContent: ` seed ${row.seed}`}));
    const section = element("section", {className: "row"}, heading, list);
    section.setAttribute("aria-label", row.prompt);
    return section;
  }));
  buildSettings();
}

function buildSettings() {
  const entries = Object.entries(data.settings);
  if (!entries.length) return;
  const head = element("tr", {}, ...["setting", ...data.columns].map((text) => element("th", {textContent: text, scope: "col"})));
  const body = entries.map(([key, values]) => element("tr", {}, element("th", {textContent: key, scope: "row"}),
    ...data.columns.map((name) => element("td", {}, element("mark", {textContent: values[name]})))));
  const table = element("table", {}, element("caption", {className: "quiet", textContent: "Settings that differ"}), head, ...body);
  $("settings").append(element("div", {className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Settings that differ"}, table));
}

function showDifference() {
  for (const one of document.querySelectorAll(".difference")) one.remove();
  for (let index = players.length - 1; index >= 0; index--) {
    if (players[index].other) { seen.unobserve(players[index].canvas); players.splice(index, 1); }
  }
  if (!$("difference").checked) return;
  const [first, second] = [Number($("first").value), Number($("second").value)];
  const label = `${data.columns[first]} − ${data.columns[second]}`;
  const sections = document.querySelectorAll(".row");
  data.rows.forEach((row, index) => {
    const [a, b] = [row.cells[first], row.cells[second]];
    if (!a || !b || !a.frames || !b.frames) return;
    const canvas = player(a, `Difference of ${label}: ${row.prompt}`, b);
    canvas.style.filter = `brightness(${$("gain").value})`;
    const note = a.width === b.width && a.height === b.height ? "" : " (scaled)";
    sections[index].querySelector(".cells").append(element("figure", {className: "difference small"}, canvas,
      element("figcaption", {}, element("b", {textContent: label}),
        element("span", {className: "quiet", textContent: `absolute difference × ${$("gain").value}${note}`}))));
  });
  $("status").textContent = `Difference of ${label} is shown.`;
}

function find() {
  const words = $("find").value.toLowerCase();
  let count = 0;
  document.querySelectorAll(".row").forEach((section, index) => {
    section.hidden = !data.rows[index].prompt.toLowerCase().includes(words);
    count += !section.hidden;
  });
  $("status").textContent = words ? `${count} of ${data.rows.length} prompts` : "";
  paint(true);
}

function jump(direction) {
  const sections = [...document.querySelectorAll(".row:not([hidden])")];
  const top = $("controls").getBoundingClientRect().bottom + 10;
  const places = sections.map((section) => section.getBoundingClientRect().top);
  const current = places.findLastIndex((place) => place <= top);
  const target = sections[Math.min(sections.length - 1, Math.max(0, current + direction))];
  if (!target) return;
  target.scrollIntoView();
  target.querySelector("h2").focus({preventScroll: true});
}

$("play").addEventListener("click", () => play(!clock.playing));
$("previous").addEventListener("click", () => go(step() - 1));
$("following").addEventListener("click", () => go(step() + 1));
$("frame").addEventListener("input", () => go(Number($("frame").value)));
$("speed").addEventListener("change", () => { clock.speed = Number($("speed").value); });
$("size").addEventListener("change", () => document.documentElement.style.setProperty("--cell", `${$("size").value}px`));
for (const id of ["difference", "first", "second", "gain"]) $(id).addEventListener("change", showDifference);
$("find").addEventListener("input", find);

document.addEventListener("keydown", (event) => {
  if (!$("keys").checked || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) return;
  if (event.key === " " && event.target.closest("button")) return;
  const actions = {
    " ": () => play(!clock.playing), ArrowLeft: () => go(step() - 1), ArrowRight: () => go(step() + 1),
    Home: () => go(0), End: () => go(steps - 1), j: () => jump(1), k: () => jump(-1),
    d: () => { $("difference").checked = !$("difference").checked; showDifference(); },
  };
  const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

build();
if (data.columns.length < 2) $("difference").disabled = true;
go(0);
if (!matchMedia("(prefers-reduced-motion: reduce)").matches) play(true);
requestAnimationFrame(tick);
