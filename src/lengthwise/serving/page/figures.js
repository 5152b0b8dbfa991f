// What the recipe did, in numbers that are read at a glance.

import { make } from "./dom.js";

const WHOLE = new Intl.NumberFormat("en");

export const count = (n) => WHOLE.format(n);

export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (n >= 1000 && at < units.length - 1) {
    n /= 1000;
    at += 1;
  }
  return `${at && n < 100 ? n.toFixed(1) : Math.round(n)} ${units[at]}`;
}

export function seconds(s) {
  if (s < 0.0995) return `${Math.round(s * 1000)} ms`;
  return `${s < 10 ? s.toFixed(2) : s.toFixed(1)} s`;
}

export const percent = (part, whole) => (whole ? `${Math.round((100 * part) / whole)} %` : "–");

const rate = (f) => (f.tokens_per_s ? `${f.tokens_per_s.toFixed(1)} tokens/s` : "–");

// Who guessed what share of the text: [name, share], the model itself last.
export function guessers(figures) {
  const found = Object.entries(figures.accepted)
    .filter(([, n]) => n > 0)
    .sort((a, b) => b[1] - a[1])
    .map(([name, n]) => [name, n / Math.max(1, figures.decoded)]);
  const rest = 1 - found.reduce((sum, [, share]) => sum + share, 0);
  return [...found, ["the model itself", Math.max(0, rest)]];
}

// A bar of parts, each a share of the whole; what it shows is said in words beside it.
function bar(parts) {
  const found = make("div", { class: "bar", "aria-hidden": "true" });
  parts.forEach((share, number) => {
    const part = make("span", { class: `part part-${number}` });
    part.style.flexGrow = String(share);
    found.append(part);
  });
  return found;
}

function card(title, value, unit, ...more) {
  return make(
    "section",
    { class: "card" },
    make("h3", { text: title }),
    make("p", { class: "value" }, value, " ", make("small", { text: unit })),
    ...more,
  );
}

const line = (text) => make("p", { class: "detail", text });

function guessing(f) {
  const shares = guessers(f);
  const legend = make("ul", { class: "legend" });
  shares.forEach(([name, share], number) => {
    const place = number === shares.length - 1 ? "rest" : number;
    legend.append(
      make("li", { class: `of-${place}` }, make("span", { text: name }), make("b", { text: percent(share, 1) })),
    );
  });
  const parts = bar(shares.map(([, share]) => share));
  parts.lastChild.className = "part part-rest";
  return card("Guessed ahead", f.tokens_per_step.toFixed(2), "tokens a step", parts, legend);
}

// The cards of one answer.
export function cards(f, usage) {
  const kept = Math.min(1, f.plain_kv_bytes ? f.kv_bytes / f.plain_kv_bytes : 1);
  const found = make("div", { class: "cards" });
  const share = bar([kept, 1 - kept]);
  share.lastChild.className = "part part-none";
  found.append(
    card(
      "Kept of what was read",
      percent(f.kept_tokens, f.read_tokens),
      `the room of ${count(f.kept_tokens)} of ${count(f.read_tokens)} tokens`,
      share,
      line(held(f)),
    ),
    guessing(f),
    card(
      "Time to first token",
      seconds(f.ttft_s),
      `then ${rate(f)}`,
      line(reading(f, usage)),
    ),
  );
  for (const note of f.notes) found.append(make("p", { class: "note", text: note }));
  return found;
}

function held(f) {
  const found = `${bytes(f.kv_bytes)} of keys and values`;
  // Room is made at once for all that an answer may come to.
  if (f.kv_bytes > 1.02 * f.plain_kv_bytes) return `${found}, room for a longer answer included`;
  return `${found}; full attention takes ${bytes(f.plain_kv_bytes)}`;
}

function reading(f, usage) {
  const prompt = usage ? `${count(usage.prompt_tokens)} tokens of prompt` : "the prompt";
  return f.reused_tokens
    ? `${prompt}, ${count(f.reused_tokens)} of them read before`
    : `${prompt}, all of them read anew`;
}

// One line below an answer.
export function summary(f) {
  const found = [`first token ${seconds(f.ttft_s)}`, rate(f)];
  if (f.drafted) found.push(`${f.tokens_per_step.toFixed(2)} tokens a step`);
  found.push(`${bytes(f.kv_bytes)} kept`);
  return found.join(" · ");
}

const ROWS = [
  ["Time to first token", (f) => seconds(f.ttft_s), (f) => f.ttft_s],
  ["Speed after it", rate, (f) => -f.tokens_per_s],
  ["Keys and values", (f) => bytes(f.kv_bytes), (f) => f.kv_bytes],
  ["Kept of what was read", (f) => percent(f.kept_tokens, f.read_tokens), null],
  ["Tokens a step", (f) => f.tokens_per_step.toFixed(2), (f) => -f.tokens_per_step],
  [
    "Guessed by",
    (f) =>
      guessers(f)
        .slice(0, -1)
        .map(([name, share]) => `${name} ${percent(share, 1)}`)
        .join(", ") || "nobody",
    null,
  ],
  ["Read before", (f) => `${count(f.reused_tokens)} tokens`, null],
];

// Two answers side by side; the better figure of a row is marked, in words too.
export function table(titles, pair) {
  const head = make("tr", {}, make("th", { scope: "col", text: "" }));
  for (const title of titles) head.append(make("th", { scope: "col", class: "mono", text: title }));
  const body = make("tbody");
  for (const [name, show, worth] of ROWS) {
    const row = make("tr", {}, make("th", { scope: "row", text: name }));
    const values = worth ? pair.map(worth) : [0, 0];
    pair.forEach((f, number) => {
      const better = values[number] < values[1 - number];
      const cell = make("td", better ? { class: "better" } : {}, show(f));
      if (better) cell.append(make("span", { class: "hidden", text: " (better)" }));
      row.append(cell);
    });
    body.append(row);
  }
  const caption = make("caption", { text: "The better figure of a row stands out" });
  return make("table", {}, caption, make("thead", {}, head), body);
}
