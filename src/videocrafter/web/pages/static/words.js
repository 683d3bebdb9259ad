// The words that a small model knows, as buttons that add them to the prompt.
import { h } from "/static/dom.js";

export function wordChips(knowledge, field) {
  const groups = Object.entries(knowledge).filter(([, words]) => words.length);
  if (!groups.length) return h("div");
  const add = (word) => {
    field.value = field.value.trimEnd() ? `${field.value.trimEnd()} ${word}` : word;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.focus();
  };
  return h("details", { open: true }, h("summary", {}, "Words that this model knows"),
    h("div", { className: "words", tabIndex: 0, role: "region", "aria-label": "Words" }, ...groups.map(([kind, words]) => h("div", { role: "group", "aria-label": kind },
      h("span", { className: "hint" }, kind),
      h("div", { className: "chips" }, ...words.map((word) => h("button", { type: "button", className: "chip", onclick: () => add(word) }, word)))))));
}
