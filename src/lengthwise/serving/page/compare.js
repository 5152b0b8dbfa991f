// The second view: one document, one question, two recipes.

import { answer } from "./api.js";
import { $, announce, make, showError } from "./dom.js";
import { count, summary, table } from "./figures.js";

const SIDES = ["a", "b"];
let running = null;

function setRunning(controller) {
  running = controller;
  $("run").textContent = controller ? "Stop" : "Compare";
}

// One side. Gives its figures, or null where it failed.
async function write(side, content, signal) {
  const recipe = $(`recipe-${side}`).value.trim() || "full";
  const place = $(`answer-${side}`);
  $(`title-${side}`).textContent = recipe;
  const text = make("div", { class: "text" });
  place.replaceChildren(text);
  place.setAttribute("aria-busy", "true");
  place.classList.add("writing");
  try {
    const asked = {
      messages: [{ role: "user", content }],
      recipe,
      max_tokens: Number($("length").value) || 256,
      temperature: 0,
    };
    const found = await answer(asked, (piece) => text.append(piece), signal);
    if (found.figures) place.append(make("p", { class: "summary", text: summary(found.figures) }));
    return found.figures;
  } catch (error) {
    if (error.name === "AbortError") place.append(make("p", { class: "summary", text: "stopped" }));
    else showError(place, error);
    return null;
  } finally {
    place.classList.remove("writing");
    place.setAttribute("aria-busy", "false");
  }
}

async function compare() {
  const text = $("document").value.trim();
  const question = $("question").value.trim();
  const content = [text, question].filter(Boolean).join("\n\n");
  if (!content) {
    $("document").focus();
    return;
  }
  const controller = new AbortController();
  setRunning(controller);
  $("table").hidden = true;
  for (const side of SIDES) $(`answer-${side}`).replaceChildren();
  announce("Both recipes are writing.");
  const found = [];
  if ($("turns").checked) {
    for (const side of SIDES) found.push(await write(side, content, controller.signal));
  } else {
    found.push(...(await Promise.all(SIDES.map((s) => write(s, content, controller.signal)))));
  }
  setRunning(null);
  if (found.every(Boolean)) {
    const titles = SIDES.map((side) => $(`title-${side}`).textContent);
    $("table").replaceChildren(table(titles, found));
    $("table").hidden = false;
    announce("Both answers are whole; their figures stand in a table below.");
  }
}

function tellSize() {
  $("size").textContent = `${count($("document").value.length)} characters`;
}

export function startCompare() {
  $("task").addEventListener("submit", (event) => {
    event.preventDefault();
    if (running) running.abort();
    else compare();
  });
  $("view-compare").addEventListener("keydown", (event) => {
    if (event.key === "Escape") running?.abort();
  });
  $("document").addEventListener("input", tellSize);
  $("file").addEventListener("change", async () => {
    const [file] = $("file").files;
    if (!file) return;
    $("document").value = await file.text();
    tellSize();
    announce(`${file.name} was opened.`);
  });
}
