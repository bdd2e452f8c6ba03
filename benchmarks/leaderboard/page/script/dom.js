// Elements from names, attributes and texts. Nothing anywhere in this page sets HTML.

/** Return an element; strings among the children become text. */
export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Return an element of a drawing. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") {
      for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    } else if (key === "style") {
      for (const [property, text] of Object.entries(value)) node.style.setProperty(property, text);
    } else {
      node.setAttribute(key, value === true ? "" : String(value));
    }
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

/** Return the element with an id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Return a name from a record, kept apart from the direction of the text around it. */
export function name(text, attributes = {}) {
  return el("bdi", attributes, text);
}

/** Return a button. */
export function button(label, act, attributes = {}) {
  return el("button", { type: "button", ...attributes, on: { click: act } }, label);
}

/** Return a menu that opens below its label; Escape and a click elsewhere close it. */
export function menu(label, attributes, ...content) {
  const summary = el("summary", {}, label);
  const node = el("details", { ...attributes, class: `menu ${attributes.class ?? ""}` }, summary,
    el("div", { class: "menu-body" }, ...content));
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !node.open) return;
    node.open = false;
    summary.focus();
    event.stopPropagation();
  });
  return node;
}

document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll("details.menu[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
});

/** Return a list of terms and what they are; pairs without a value fall away. */
export function facts(pairs, kind = "") {
  const list = el("dl", { class: `facts ${kind}` });
  for (const [term, value] of pairs) {
    if (value === null || value === undefined || value === "") continue;
    list.append(el("div", {}, el("dt", {}, term), el("dd", {}, ...[value].flat())));
  }
  return list;
}

/** Return a button that puts a text on the clipboard and says so. */
export function copyButton(text) {
  const node = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(text);
      node.textContent = "Copied";
    } catch {
      node.textContent = "Select and copy by hand";
    }
    setTimeout(() => { node.textContent = "Copy"; }, 2000);
  }, { class: "small", "aria-live": "polite" });
  return node;
}
