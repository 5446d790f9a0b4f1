/** The server, as any OpenAI client sees it, and its errors as messages for the user. */

import { read } from "./sse.js";

const KEY = "cf-local.key";

/** An error. `kind`: "key", "gone" (no server), "broken" (mid-answer) or "refused". */
export class ApiError extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

const GONE =
  "The server does not answer. See whether “cf-local serve” is still running, then try again.";
const BROKEN = "The connection broke off before the answer was complete. What came of it is kept.";

/** Store the API key until the browser closes this tab. */
export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

function headers() {
  const key = sessionStorage.getItem(KEY);
  return key ? { authorization: `Bearer ${key}` } : {};
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...options.headers, ...headers() } });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError("gone", GONE);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const told = await response.json().then((body) => body?.error?.message, () => null);
  if (response.status === 401) {
    const wrong = sessionStorage.getItem(KEY) !== null;
    return new ApiError("key", wrong ? "The server refused the API key." : "This server asks for its API key.");
  }
  const plain = `The server answered with status ${response.status}.`;
  return new ApiError("refused", typeof told === "string" && told ? told : plain);
}

/** The available models, each `{id, kind, description, modes, sources, isDefault}`. */
export async function models(signal) {
  const response = await request("v1/models", { signal });
  const body = await response.json().catch(() => null);
  if (!Array.isArray(body?.data)) throw new ApiError("refused", "The server sent no list of models.");
  return body.data.map((model) => ({
    id: String(model.id),
    kind: model.cf_local?.kind === "source" ? "source" : "fusion",
    description: model.cf_local?.description ?? "",
    modes: model.cf_local?.modes ?? [],
    sources: model.cf_local?.sources ?? [],
    isDefault: model.cf_local?.default === true,
  }));
}

/**
 * Ask, and yield events: `{content}`, `{segment}`, `{answer}`, `{usage}`, `{finish}`.
 *
 * Raises ApiError, or AbortError when the signal aborts.
 */
export async function* ask(question, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      ...question,
      stream: true,
      stream_options: { include_usage: true },
      cf_local: { trace: true },
    }),
    signal,
  });
  try {
    for await (const data of read(response.body)) {
      if (data === "[DONE]") return;
      yield* news(JSON.parse(data));
    }
  } catch (error) {
    if (error instanceof ApiError || signal.aborted) throw error;
    throw new ApiError("broken", BROKEN);
  }
  throw new ApiError("broken", BROKEN);
}

function* news(chunk) {
  if (chunk.error) throw new ApiError("refused", chunk.error.message ?? BROKEN);
  const choice = chunk.choices?.[0];
  if (choice?.delta?.content) yield { content: choice.delta.content };
  if (chunk.cf_local?.segment) yield { segment: chunk.cf_local.segment };
  if (chunk.cf_local?.answer) yield { answer: chunk.cf_local.answer };
  if (chunk.usage) yield { usage: chunk.usage };
  if (choice?.finish_reason) yield { finish: choice.finish_reason };
}
