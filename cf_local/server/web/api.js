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
  "The server does not answer. Check that “cf-local serve” is still running, then try again.";
const BROKEN = "The connection broke off before the answer was complete. What arrived is kept.";

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
    return new ApiError("key", wrong ? "The server refused the API key." : "This server requires its API key.");
  }
  const plain = `The server answered with status ${response.status}.`;
  return new ApiError("refused", typeof told === "string" && told ? told : plain);
}

/** The available models that write, each `{id, kind, description, modes, sources, isDefault}`. */
export async function models(signal) {
  const response = await request("v1/models", { signal });
  const body = await response.json().catch(() => null);
  if (!Array.isArray(body?.data)) throw new ApiError("refused", "The server sent no list of models.");
  const writing = body.data.filter((model) => model.cf_local?.kind !== "embedding");
  return writing.map((model) => ({
    id: String(model.id),
    kind: model.cf_local?.kind === "source" ? "source" : "fusion",
    description: model.cf_local?.description ?? "",
    modes: model.cf_local?.modes ?? [],
    sources: model.cf_local?.sources ?? [],
    isDefault: model.cf_local?.default === true,
    isLoaded: model.cf_local?.loaded === true,
  }));
}

/** How much of a model has been loaded, 0 to 1; null if it is not being loaded. */
export async function loadingOf(model) {
  try {
    const response = await request(`v1/models/${encodeURIComponent(model)}`);
    return (await response.json()).cf_local?.loading ?? null;
  } catch {
    return null;
  }
}

/** What the server lets a request set, each `{name, about, kind, choices, low, high}`; from its own description. */
export async function settings() {
  const { components } = await (await request("openapi.json")).json();
  const { properties = {} } = components?.schemas?.Extension ?? {};
  return Object.entries(properties).map(([name, schema]) => settingOf(`cf_local.${name}`, schema)).filter(Boolean);
}

function settingOf(name, { description, anyOf, ...rest }) {
  const schema = (anyOf ?? [rest]).find(({ type }) => type !== "null" && type !== "object") ?? {};
  const kind = schema.enum ? "choice" : { number: "number", integer: "whole", boolean: "switch", string: "text" }[schema.type];
  if (!kind) return null;
  const [low, high] = [schema.minimum ?? schema.ge ?? null, schema.maximum ?? schema.le ?? null];
  return { name, about: description ?? "", kind, choices: schema.enum ?? [], low, high };
}

/**
 * Ask, and yield events: what each chunk has of `content`, `reasoning`, `segment`, `answer`, `usage`, `finish`.
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
      cf_local: { ...question.cf_local, trace: true },
    }),
    signal,
  });
  try {
    for await (const data of read(response.body)) {
      if (data === "[DONE]") return;
      yield newsOf(JSON.parse(data));
    }
  } catch (error) {
    if (error instanceof ApiError || signal.aborted) throw error;
    throw new ApiError("broken", BROKEN);
  }
  throw new ApiError("broken", BROKEN);
}

function newsOf(chunk) {
  if (chunk.error) throw new ApiError("refused", chunk.error.message ?? BROKEN);
  const choice = chunk.choices?.[0];
  return {
    content: choice?.delta?.content,
    reasoning: choice?.delta?.reasoning_content,
    finish: choice?.finish_reason,
    segment: chunk.cf_local?.segment,
    answer: chunk.cf_local?.answer,
    usage: chunk.usage,
  };
}
