// Build elements. Text always becomes a text node, so a prompt can never become markup.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== "list" && name !== "form") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const $ = (selector, root = document) => root.querySelector(selector);

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function bytes(count) {
  const [size, unit] = count >= 2 ** 30 ? [2 ** 30, "GiB"] : count >= 2 ** 20 ? [2 ** 20, "MiB"] : [2 ** 10, "KiB"];
  return `${(count / size).toFixed(unit === "GiB" ? 1 : 0)} ${unit}`;
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export function toast(text, action) {
  const element = h("div", { className: "toast" }, text);
  if (action) {
    element.append(h("button", { type: "button", onclick: () => { element.remove(); action.run(); } }, action.label));
  }
  // An open dialog covers the rest of the page, and nothing behind it is read out.
  const dialog = [...document.querySelectorAll("dialog[open]")].at(-1);
  if (dialog) {
    element.setAttribute("role", "status");
    dialog.prepend(element);
  } else $("#toasts").append(element);
  setTimeout(() => element.remove(), action ? 10000 : 6000);
}

export function announceError(error) {
  toast(error.message || String(error));
}

// A file name is a poor key, so remembered values live under one prefix.
export const memory = {
  get(name, fallback = null) {
    try { return JSON.parse(localStorage.getItem(`studio:${name}`)) ?? fallback; } catch { return fallback; }
  },
  set(name, value) { localStorage.setItem(`studio:${name}`, JSON.stringify(value)); },
};
