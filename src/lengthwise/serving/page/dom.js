// Making elements. Text of a model goes in as text, never as HTML.

export const $ = (id) => document.getElementById(id);

export function make(tag, options = {}, ...children) {
  const { text, ...rest } = options;
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(rest)) found.setAttribute(name, value);
  if (text !== undefined) found.textContent = text;
  found.append(...children);
  return found;
}

// Said to a screen reader, and shown to nobody.
export function announce(text) {
  $("status").textContent = text;
}

export function showError(place, error) {
  const message = String(error.message ?? error);
  // A recipe's error shows the place below the recipe: that needs letters of one width.
  const kind = message.includes("\n") ? "error mono" : "error";
  place.append(make("p", { class: kind, role: "alert", text: message }));
}
