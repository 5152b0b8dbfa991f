// Starts the page: tabs, the key, and the name of the model.

import { models, setKey } from "./api.js";
import { startChat } from "./chat.js";
import { startCompare } from "./compare.js";
import { $ } from "./dom.js";
import { count } from "./figures.js";

const TABS = ["chat", "compare"];

function choose(name, focus = false) {
  for (const each of TABS) {
    const chosen = each === name;
    $(`tab-${each}`).setAttribute("aria-selected", String(chosen));
    $(`tab-${each}`).tabIndex = chosen ? 0 : -1;
    $(`view-${each}`).hidden = !chosen;
  }
  if (focus) $(`tab-${name}`).focus();
  history.replaceState(null, "", `#${name}`);
}

function startTabs() {
  TABS.forEach((name, number) => {
    const tab = $(`tab-${name}`);
    tab.addEventListener("click", () => choose(name));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) choose(TABS[(number + step + TABS.length) % TABS.length], true);
      if (event.key === "Home") choose(TABS[0], true);
      if (event.key === "End") choose(TABS.at(-1), true);
    });
  });
  const asked = location.hash.slice(1);
  choose(TABS.includes(asked) ? asked : TABS[0]);
}

async function connect() {
  try {
    const [model] = await models();
    $("model").textContent = `${model.id} · trained to ${count(model.trained_length)} tokens`;
    $("recipe").value ||= model.recipe;
    $("length").max = model.max_new_tokens;
  } catch (error) {
    $("model").textContent = error.status === 401 ? "a key is needed" : "no connection";
    if (error.status === 401) $("key-dialog").showModal();
  }
}

$("key-form").addEventListener("submit", () => {
  setKey($("key").value.trim());
  $("key").value = "";
  connect();
});

startTabs();
startChat();
startCompare();
connect();
