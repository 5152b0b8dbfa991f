// The first view: a conversation, and beside it what the recipe did for the last answer.

import { answer } from "./api.js";
import { $, announce, make, showError } from "./dom.js";
import { cards, count, seconds, summary } from "./figures.js";

const SAMPLES = [
  "What is a key-value cache, in two sentences?",
  "Write five lines about a river, then repeat them word for word.",
  "List ten cities and their countries as a table.",
];
const nothing = $("did-recipe").textContent;
let messages = [];
let running = null;

function addMessage(role, text) {
  $("welcome").hidden = true;
  const body = make("div", { class: "text" });
  body.textContent = text;
  const found = make(
    "article",
    { class: `said ${role}` },
    make("h3", { class: "who", text: role === "user" ? "You" : "Model" }),
    body,
  );
  $("log").append(found);
  toEnd(true);
  return { found, body };
}

// Follows the text, unless somebody has scrolled up to read.
function toEnd(always = false) {
  const log = $("log");
  if (log.scrollHeight <= log.clientHeight) {
    // In a narrow window it is the page that scrolls.
    if (always) log.lastElementChild.scrollIntoView({ block: "nearest" });
  } else if (always || log.scrollHeight - log.scrollTop - log.clientHeight < 120) {
    log.scrollTop = log.scrollHeight;
  }
}

function setRunning(controller) {
  running = controller;
  $("send").textContent = controller ? "Stop" : "Send";
  $("log").setAttribute("aria-busy", controller ? "true" : "false");
}

async function say(text) {
  const recipe = $("recipe").value.trim();
  addMessage("user", text);
  messages.push({ role: "user", content: text });
  const said = addMessage("assistant", "");
  said.found.classList.add("writing");
  const controller = new AbortController();
  setRunning(controller);
  announce("The model is writing.");
  let whole = "";
  try {
    const asked = {
      messages,
      max_tokens: Number($("length").value) || 256,
      temperature: Number($("temperature").value) || 0,
    };
    if (recipe) asked.recipe = recipe;
    const found = await answer(
      asked,
      (piece) => {
        whole += piece;
        said.body.append(piece);
        toEnd();
      },
      controller.signal,
    );
    messages.push({ role: "assistant", content: whole });
    show(said.found, found);
  } catch (error) {
    failed(said.found, error, whole);
  } finally {
    said.found.classList.remove("writing");
    setRunning(null);
  }
}

function show(place, found) {
  const { figures, usage, reason } = found;
  if (!figures) return;
  const late = figures.ended === "deadline" ? " · cut at the deadline" : " · cut at the longest answer";
  const cut = reason === "length" ? late : "";
  place.append(make("p", { class: "summary", text: summary(figures) + cut }));
  $("did-recipe").textContent = figures.recipe;
  $("did-recipe").classList.add("mono");
  $("did").replaceChildren(cards(figures, usage));
  const written = usage ? `${count(usage.completion_tokens)} tokens, ` : "";
  announce(`The answer is whole: ${written}first token after ${seconds(figures.ttft_s)}.`);
  toEnd();
}

function failed(place, error, whole) {
  if (error.name === "AbortError") {
    place.append(make("p", { class: "summary", text: "stopped" }));
    announce("Stopped.");
    if (whole) messages.push({ role: "assistant", content: whole });
    else messages.pop();
  } else {
    // A turn that was not answered is not part of what comes next.
    messages.pop();
    showError(place, error);
  }
  toEnd(true);
}

function send() {
  if (running) {
    running.abort();
    return;
  }
  const text = $("message").value;
  if (!text.trim()) {
    $("message").focus();
    return;
  }
  $("message").value = "";
  say(text);
}

function renew() {
  running?.abort();
  messages = [];
  for (const each of document.querySelectorAll("#log .said")) each.remove();
  $("welcome").hidden = false;
  $("did").replaceChildren();
  $("did-recipe").textContent = nothing;
  $("did-recipe").classList.remove("mono");
  $("message").focus();
  announce("A new chat.");
}

export function startChat() {
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  $("message").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      if (!running) send();
    }
  });
  $("view-chat").addEventListener("keydown", (event) => {
    if (event.key === "Escape") running?.abort();
  });
  $("renew").addEventListener("click", renew);
  for (const text of SAMPLES) {
    const button = make("button", { type: "button", text });
    button.addEventListener("click", () => {
      $("message").value = text;
      $("message").focus();
    });
    $("samples").append(make("li", {}, button));
  }
}
