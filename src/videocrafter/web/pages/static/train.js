// The page Train: training runs, read only.
import { $, duration, h } from "/static/dom.js";
import { get } from "/static/api.js";

const MOST_CURVES = 6;

function curve(name, points) {
  const values = points.map(([, value]) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const [first, last] = [points[0][0], points.at(-1)[0]];
  const place = ([samples, value]) => `${((samples - first) / (last - first || 1)) * 400},${110 - ((value - low) / (high - low || 1)) * 100}`;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 400 120");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "curve");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${name}: from ${values[0].toPrecision(3)} to ${values.at(-1).toPrecision(3)}`);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points.map(place).join(" "));
  svg.append(line);
  return h("figure", {}, h("figcaption", { className: "label" }, `${name}: ${values.at(-1).toPrecision(4)}`), svg);
}

async function draw() {
  const { runs, folder_given: given } = await get("runs");
  $("#intro").hidden = given;
  const full = await Promise.all(runs.slice(0, 12).map((run) => get(`runs/${run.id}`)));
  $("#runs").replaceChildren(...full.map((run) => {
    const left = run.finished ? "finished" : run.seconds_left === null ? "" : `about ${duration(run.seconds_left)} left`;
    const names = Object.keys(run.curves).filter((name) => run.curves[name].length > 1).sort((a, b) => (b.startsWith("loss") || b.startsWith("validation")) - (a.startsWith("loss") || a.startsWith("validation")));
    return h("section", { className: "panel" }, h("h2", {}, run.name),
      h("p", { className: "state" }, `${run.recipe} · ${run.stage} · step ${run.step} of ${run.num_steps} · ${left}`),
      h("progress", { max: run.num_steps || 1, value: run.finished ? run.num_steps || 1 : run.step, "aria-label": `Progress of ${run.name}` }),
      h("div", { className: "grid players" }, ...names.slice(0, MOST_CURVES).map((name) => curve(name, run.curves[name]))),
      h("div", { className: "samples stack" }, ...run.samples.slice(0, 3).map((sheet) => h("img", { src: `/api/v1/runs/${run.id}/samples/${sheet.number}`, alt: `Samples at ${sheet.name}`, loading: "lazy" }))));
  }));
  if (given && !runs.length) $("#runs").append(h("p", { className: "hint" }, "The folder holds no training run yet."));
}

const update = () => draw().catch(() => {});
update();
setInterval(() => { if (!document.hidden) update(); }, 5000);
