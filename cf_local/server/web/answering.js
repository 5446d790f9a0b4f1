/** Writes answers: the question that is sent, and what is done with the events that come. */

import { receive, tell, textOf } from "./answer.js";
import { ApiError, ask } from "./api.js";
import { messages } from "./conversation.js";

const SAVE_MS = 3000; // running answers are stored this often, unless storing them takes long

/** One question to the server. `only`: the source that answers alone. */
function body(conversation, index, answer, { again, continues, only }) {
  const { model, mode } = answer;
  const found = { model: mode && !only ? `${model}:${mode}` : model, messages: messages(conversation, index, continues) };
  const extension = {};
  for (const [name, value] of Object.entries(answer.options)) {
    if (name.startsWith("cf_local.")) extension[name.slice("cf_local.".length)] = value;
    else found[name] = value;
  }
  if (only) extension.only = only;
  if (found.temperature > 0 && found.seed === undefined) found.seed = again; // each version has its own seed
  return { ...found, cf_local: extension };
}

/** Answers that are being written, all to the same question. */
export class Job {
  #controller = new AbortController();
  #saved = 0;
  #pause = SAVE_MS;

  constructor(conversation, index, onSave) {
    this.conversation = conversation;
    this.index = index;
    this.onSave = onSave;
  }

  stop() {
    this.#controller.abort();
  }

  /** Write one answer; it says itself how it ended. `prepare` may still change it. */
  async write(answer, how, prepare) {
    const { signal } = this.#controller;
    const before = { seconds: answer.seconds ?? 0, thought: answer.thought ?? 0 };
    const start = performance.now();
    let first = 0;
    let drawn = 0;
    const draw = () => {
      drawn = 0;
      tell(answer);
    };
    this.#saved ||= start;
    try {
      await prepare?.(answer);
      for await (const news of ask(body(this.conversation, this.index, answer, how), signal)) {
        const now = performance.now();
        if (!first) {
          first = now;
          answer.waited ??= (now - start) / 1000;
          answer.loading = null;
        }
        receive(answer, news);
        answer.seconds = before.seconds + (now - first) / 1000;
        if (news.reasoning) answer.thought = before.thought + (now - first) / 1000;
        drawn ||= requestAnimationFrame(draw);
        if (now - this.#saved > this.#pause) this.#save(now);
      }
      answer.state = "done";
      if (answer.stats) answer.seconds = before.seconds + answer.stats.seconds;
    } catch (error) {
      fail(answer, error, signal.aborted);
    }
    cancelAnimationFrame(drawn);
    answer.content = textOf(answer);
    answer.loading = null;
    tell(answer);
  }

  async #save(now) {
    this.#saved = now;
    await this.onSave(this.conversation);
    this.#pause = Math.max(SAVE_MS, 20 * (performance.now() - now));
  }
}

function fail(answer, error, isStopped) {
  answer.state = isStopped ? "stopped" : "failed";
  if (isStopped) return;
  const kind = error instanceof ApiError ? error.kind : "broken";
  answer.error = { kind, message: error.message };
}
