/** The state of the page and its actions: conversations, models, running answers. Draws nothing. */

import { receive, tell, textOf } from "./answer.js";
import { ApiError, ask, models, useKey } from "./api.js";
import { empty, emptyAnswer, imported, messages, shownAnswer, titleOf } from "./conversation.js";
import { Forgetful, keep, recall, Store } from "./store.js";

const SAVE_MS = 3000; // a running answer is stored this often

export class Chat {
  models = [];
  modelsError = null; // an ApiError
  headings = [];
  current = empty("", "");
  notice = ""; // one line for the user, about storage or a file
  announcement = ""; // for screen readers
  isForgetful = false;
  #store = new Forgetful();
  #jobs = new Map(); // id of a conversation -> {controller, answer}
  #removed = new Set(); // conversations that a running answer must not restore
  #listeners = new Set();
  #others = "BroadcastChannel" in window ? new BroadcastChannel("cf-local") : null;

  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #changed() {
    for (const listener of this.#listeners) listener();
  }

  async start() {
    this.#others?.addEventListener("message", ({ data }) => this.#elsewhere(data));
    addEventListener("hashchange", () => this.#follow());
    addEventListener("pagehide", () => this.#saveRunning());
    try {
      this.#store = await Store.open();
    } catch {
      this.isForgetful = true;
    }
    this.headings = await this.#store.headings();
    await Promise.all([this.#follow(), this.refresh()]);
  }

  /** Load the list of models again. */
  async refresh() {
    try {
      this.models = await models();
      this.modelsError = null;
    } catch (error) {
      this.modelsError = error instanceof ApiError ? error : new ApiError("broken", String(error));
    }
    if (!this.current.model) this.current.model = this.#usualModel();
    this.#changed();
  }

  #usualModel() {
    const last = recall("model");
    const known = this.models.find((model) => model.id === last) ?? this.models.find((model) => model.isDefault);
    return (known ?? this.models[0])?.id ?? "";
  }

  modelOf(conversation) {
    return this.models.find((model) => model.id === conversation.model);
  }

  get isBusy() {
    return this.#jobs.has(this.current.id);
  }

  isRunning(id) {
    return this.#jobs.has(id);
  }

  // The conversation that is shown

  startNew() {
    this.current = empty(this.current.model || this.#usualModel(), this.current.mode);
    history.pushState(null, "", location.pathname + location.search);
    this.#changed();
  }

  open(id) {
    location.hash = id;
  }

  async #follow() {
    const id = decodeURIComponent(location.hash.slice(1));
    if (id === this.current.id) return;
    const running = this.#jobs.get(id)?.conversation;
    const found = running ?? (id ? await this.#store.load(id) : null);
    this.current = found ? mended(found, running) : empty(this.#usualModel(), "");
    if (id && !found) history.replaceState(null, "", location.pathname + location.search);
    this.#changed();
  }

  // Questions and answers

  /** Ask the next question of the conversation. */
  send(content) {
    const conversation = this.current;
    if (this.isBusy || !content.trim()) return;
    if (!conversation.turns.length && !conversation.named) conversation.title = titleOf(content);
    conversation.turns = [...conversation.turns, { role: "user", content }];
    this.#answer(conversation);
  }

  /** Answer the last question again; earlier answers stay as other versions. */
  regenerate() {
    if (this.isBusy || !this.current.turns.length) return;
    this.#answer(this.current);
  }

  /** Edit the last question; its answers are removed. */
  edit(content) {
    const conversation = this.current;
    if (this.isBusy || !content.trim()) return;
    const at = conversation.turns.findLastIndex((turn) => turn.role === "user");
    const isFirst = at === 0 && !conversation.named;
    if (isFirst) conversation.title = titleOf(content);
    conversation.turns = [...conversation.turns.slice(0, at), { role: "user", content }];
    this.#answer(conversation);
  }

  stop() {
    this.#jobs.get(this.current.id)?.controller.abort();
  }

  /** Try again with an API key. */
  async unlock(key) {
    useKey(key);
    await this.refresh();
    const last = this.current.turns.at(-1);
    if (last?.role === "assistant" && shownAnswer(last).error?.kind === "key") this.regenerate();
  }

  async #answer(conversation) {
    const { model, mode } = conversation;
    const answer = emptyAnswer(model, mode, this.modelOf(conversation)?.sources ?? []);
    const turn = place(conversation, answer);
    const job = { controller: new AbortController(), answer, conversation };
    this.#jobs.set(conversation.id, job);
    this.announcement = "Answering";
    if (model) keep("model", model);
    this.#touch(conversation);
    this.#changed();
    await this.#receive(job, turn.versions.length - 1);
    this.#jobs.delete(conversation.id);
    this.announcement = spoken(answer);
    await this.#touch(conversation);
    this.#changed();
  }

  #question(conversation, again) {
    const { model, mode, temperature, maxTokens, turns } = conversation;
    const last = turns.findLastIndex((turn) => turn.role === "user");
    return {
      model: mode ? `${model}:${mode}` : model,
      messages: messages(conversation, last),
      ...(temperature !== null && { temperature }),
      ...(maxTokens !== null && { max_tokens: maxTokens }),
      ...(temperature > 0 && { seed: again }), // each version of an answer has its own seed
    };
  }

  /** Choose the default model for a question asked before the list of models arrived. */
  async #chooseModel(conversation, answer) {
    await this.refresh();
    conversation.model ||= this.#usualModel();
    if (!conversation.model) throw this.modelsError ?? new ApiError("refused", "The server has no models.");
    answer.model = conversation.model;
    answer.sources = this.modelOf(conversation)?.sources ?? [];
  }

  async #receive({ controller, answer, conversation }, again) {
    const start = performance.now();
    let drawn = 0;
    let saved = start;
    const draw = () => {
      drawn = 0;
      tell(answer);
    };
    try {
      if (!conversation.model) await this.#chooseModel(conversation, answer);
      for await (const news of ask(this.#question(conversation, again), controller.signal)) {
        receive(answer, news);
        answer.seconds = (performance.now() - start) / 1000;
        drawn ||= requestAnimationFrame(draw);
        if (performance.now() - saved > SAVE_MS) {
          saved = performance.now();
          this.#save(conversation);
        }
      }
      answer.state = "done";
    } catch (error) {
      fail(answer, error, controller.signal.aborted);
    }
    cancelAnimationFrame(drawn);
    answer.content = textOf(answer);
    tell(answer);
  }

  showVersion(turn, at) {
    turn.at = at;
    this.#save(this.current);
    this.#changed();
  }

  // The list of conversations

  /** Change a setting of the conversation shown. */
  set(changes) {
    Object.assign(this.current, changes);
    if (changes.model !== undefined) keep("model", changes.model);
    if (this.current.turns.length) this.#save(this.current);
    this.#changed();
  }

  rename(title) {
    if (title.trim()) this.set({ title: titleOf(title), named: true });
  }

  async remove(id) {
    this.#removed.add(id);
    this.#jobs.get(id)?.controller.abort();
    await this.#guard(() => this.#store.remove(id));
    this.#others?.postMessage(id);
    keep(`draft.${id}`, null);
    if (this.current.id === id) this.startNew();
    await this.#relist();
  }

  load(id) {
    return id === this.current.id ? this.current : this.#store.load(id);
  }

  /** Import the conversations of a file. */
  async takeIn(file) {
    try {
      const found = imported(await file.text(), this.current.model || this.#usualModel());
      for (const conversation of found) await this.#store.save(conversation);
      await this.#relist();
      this.notice = "";
      this.open(found[0].id);
    } catch (error) {
      this.say(`“${file.name}” was not imported. ${error.message}`);
    }
  }

  /** Show one line to the user; an empty text removes it. */
  say(notice) {
    this.notice = notice;
    this.#changed();
  }

  /** Announce a text to screen readers. */
  announce(text) {
    this.announcement = text;
    this.#changed();
  }

  async #touch(conversation) {
    if (!this.#jobs.has(conversation.id) && !conversation.turns.length) return;
    conversation.updated = Date.now();
    if (conversation === this.current && location.hash.slice(1) !== conversation.id)
      history.replaceState(null, "", `#${conversation.id}`);
    await this.#save(conversation);
  }

  async #save(conversation) {
    if (this.#removed.has(conversation.id)) return;
    await this.#guard(() => this.#store.save(conversation));
    this.#others?.postMessage(conversation.id);
    await this.#relist();
  }

  #saveRunning() {
    for (const { conversation } of this.#jobs.values()) this.#store.save(conversation).catch(() => {});
  }

  async #relist() {
    this.headings = await this.#store.headings();
    this.#changed();
  }

  async #guard(action) {
    try {
      await action();
    } catch (error) {
      this.notice = `The browser did not keep this conversation (${error.name}). Export it if you need it.`;
    }
  }

  /** Update a conversation that another tab stored or removed. */
  async #elsewhere(id) {
    if (id === this.current.id && !this.isBusy) {
      const found = await this.#store.load(id);
      if (found) this.current = found;
    }
    await this.#relist();
  }
}

/** The turn for the answer to the last question; added if needed. */
function place(conversation, answer) {
  const last = conversation.turns.at(-1);
  if (last.role === "user") {
    const turn = { role: "assistant", versions: [answer], at: 0 };
    conversation.turns = [...conversation.turns, turn];
    return turn;
  }
  if (!shownAnswer(last).content) last.versions.splice(last.at, 1); // drop a failed answer
  last.at = last.versions.push(answer) - 1;
  return last;
}

function fail(answer, error, isStopped) {
  answer.state = isStopped ? "stopped" : "failed";
  if (isStopped) return;
  const kind = error instanceof ApiError ? error.kind : "broken";
  answer.error = { kind, message: error.message };
}

/** A stored conversation; an answer that was running when its page closed is marked as stopped. */
function mended(conversation, isRunning) {
  for (const turn of isRunning ? [] : conversation.turns)
    for (const answer of turn.versions ?? []) if (answer.state === "running") answer.state = "stopped";
  return conversation;
}

/** The announcement for screen readers when an answer ends; failures have their own alerts. */
function spoken(answer) {
  if (answer.state === "failed") return "";
  return `${answer.state === "stopped" ? "Stopped" : "Answer"}: ${answer.content}`;
}
