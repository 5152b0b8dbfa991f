// Calls of the server's own API. Nothing here touches the page.

let key = sessionStorage.getItem("lengthwise.key") ?? "";

export function setKey(given) {
  key = given;
  sessionStorage.setItem("lengthwise.key", given);
}

export class ApiError extends Error {
  constructor(status, error) {
    super(error?.message ?? `the server answered ${status}`);
    this.status = status;
    this.param = error?.param ?? null;
  }
}

function headers(more = {}) {
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function checked(response) {
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new ApiError(response.status, body.error);
}

export async function models() {
  const response = await checked(await fetch("/v1/models", { headers: headers() }));
  return (await response.json()).data;
}

// Chunks of an answer as they come; ends when the server has said [DONE].
export async function* complete(body, signal) {
  const response = await checked(
    await fetch("/v1/chat/completions", {
      method: "POST",
      headers: headers({ "Content-Type": "application/json" }),
      body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
      signal,
    }),
  );
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new ApiError(0, { message: "the connection ended before the answer did" });
    waiting += value;
    const events = waiting.split("\n\n");
    waiting = events.pop();
    for (const event of events) {
      if (!event.startsWith("data: ")) continue;
      const data = event.slice(6);
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(500, chunk.error);
      yield chunk;
    }
  }
}

// Writes one answer; told gets each piece of text. Gives { figures, usage, reason }.
export async function answer(body, told, signal) {
  const found = { figures: null, usage: null, reason: null };
  for await (const chunk of complete(body, signal)) {
    const choice = chunk.choices[0];
    if (choice?.delta?.content) told(choice.delta.content);
    if (choice?.finish_reason) found.reason = choice.finish_reason;
    if (choice?.lengthwise) found.figures = choice.lengthwise;
    if (chunk.usage) found.usage = chunk.usage;
  }
  return found;
}
