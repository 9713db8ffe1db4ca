// Makes elements. Text goes in as text, never as markup: what a payload says cannot become part of the page.

/** Returns a new element: `properties` are set on it, `aria` and `data` too, and the children appended. */
export function element(name, { aria = {}, data = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  for (const [key, value] of Object.entries(aria)) made.setAttribute(`aria-${key}`, value);
  Object.assign(made.dataset, data);
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Sets a text, unless it is there already: screen readers are told of changes only. */
export function say(id, text) {
  const target = byId(id);
  if (target.textContent !== text) target.textContent = text;
}

/** Replaces what is in `container`, unless `shown` is what it was made from; the focus stays where it was. */
export function render(container, shown, children) {
  const key = JSON.stringify(shown);
  if (container.shown === key) return;
  container.shown = key;
  const focused = container.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  container.replaceChildren(...children());
  if (focused) container.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

/** Returns a text as nodes; what stands between backticks is code. */
export const prose = (text) => text.split("`").map((part, n) => (n % 2 ? element("code", {}, part) : part));

export const nothing = (title, text) => element("p", { className: "nothing" }, element("strong", {}, title), prose(text));
