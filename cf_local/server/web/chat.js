/** The state of the page and its actions: models, the open conversation, answers. Draws nothing. */

import { canResume, tell } from "./answer.js";
import { Job } from "./answering.js";
import { ApiError, loadingOf, useKey } from "./api.js";
import { Catalogue } from "./catalogue.js";
import { empty, emptyAnswer, shownAnswer, titleOf } from "./conversation.js";
import { Listing } from "./listing.js";
import { keep, recall } from "./store.js";
import * as versions from "./versions.js";

const LOADING_MS = 500; // how often to ask how far a cold model is loaded

export class Chat {
  catalogue = new Catalogue();
  current = empty("", "");
  notice = ""; // one line for the user
  undo = null; // takes the last deletion back
  announcement = ""; // for screen readers
  compares = recall("compares") === "yes";
  listing = new Listing();
  #jobs = new Map(); // id of a conversation -> Job
  #listeners = new Set();

  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #changed() {
    for (const listener of this.#listeners) listener();
  }

  async start() {
    addEventListener("hashchange", () => this.#follow());
    addEventListener("pagehide", () => {
      for (const { conversation } of this.#jobs.values()) this.listing.saveRunning(conversation);
    });
    await this.listing.open((id) => this.#elsewhere(id));
    await Promise.all([this.#follow(), this.refresh()]);
    await this.catalogue.describe();
    this.#changed();
  }

  /** Load the list of models again. */
  async refresh() {
    await this.catalogue.refresh();
    this.current.model ||= this.catalogue.usual;
    this.#changed();
  }

  get models() {
    return this.catalogue.models;
  }

  modelOf(conversation) {
    return this.catalogue.find(conversation.model);
  }

  /** Try again with an API key. */
  async unlock(key) {
    useKey(key);
    await this.refresh();
    await this.catalogue.describe();
    const last = this.current.turns.at(-1);
    if (last?.role === "assistant" && shownAnswer(last).error?.kind === "key") this.regenerate();
  }

  // The conversation that is shown

  get isBusy() {
    return this.#jobs.has(this.current.id);
  }

  isRunning(id) {
    return this.#jobs.has(id);
  }

  startNew() {
    this.current = empty(this.current.model || this.catalogue.usual, this.current.mode);
    this.undo = null;
    history.pushState(null, "", location.pathname + location.search);
    this.#changed();
  }

  open(id) {
    location.hash = id;
  }

  async #follow() {
    const id = decodeURIComponent(location.hash.slice(1));
    if (id === this.current.id) return;
    const found = this.#jobs.get(id)?.conversation ?? (id ? await this.listing.load(id) : null);
    this.current = found ?? empty(this.catalogue.usual, "");
    this.undo = null;
    if (id && !found) history.replaceState(null, "", location.pathname + location.search);
    this.#changed();
  }

  /** Show a conversation that another tab stored or removed. */
  async #elsewhere(id) {
    if (id === this.current.id && !this.isBusy) this.current = (await this.listing.load(id, true)) ?? this.current;
    await this.listing.refresh();
    this.#changed();
  }

  /** Change a setting of the conversation. */
  set(changes) {
    Object.assign(this.current, changes);
    if (changes.model !== undefined) keep("model", changes.model);
    if (this.current.turns.length) this.#save(this.current);
    this.#changed();
  }

  rename(title) {
    if (title.trim()) this.set({ title: titleOf(title), named: true });
  }

  /** Whether the sources answer, too, each alone next to the fusion. */
  compare(isOn) {
    this.compares = isOn;
    keep("compares", isOn ? "yes" : null);
    this.#changed();
  }

  // Questions and answers

  /** Ask the next question. */
  send(content, files = []) {
    const { current } = this;
    if (this.isBusy || !(content.trim() || files.length)) return;
    if (!current.turns.length && !current.named) current.title = titleOf(content || files[0].name);
    current.turns = [...current.turns, { role: "user", content, ...(files.length && { files }) }];
    this.#answer(current.turns.length);
  }

  /** Ask another question instead of one; the first stays as a version, with all that followed. */
  edit(index, content) {
    const { current } = this;
    const { files } = current.turns[index];
    if (this.isBusy || !(content.trim() || files?.length)) return;
    versions.add(current, index, { content, files });
    if (index === 0 && !current.named) current.title = titleOf(content || files[0].name);
    this.#answer(index + 1);
  }

  /** Answer again, optionally with other settings; earlier answers stay as versions. */
  regenerate(index = this.current.turns.length - 1, how = {}) {
    if (this.isBusy || !this.current.turns.length) return;
    this.#answer(this.current.turns[index].role === "user" ? index + 1 : index, how);
  }

  /** Change the text of an answer; the one that was written stays as a version. */
  editAnswer(index, content) {
    const { turns } = this.current;
    const rest = turns.slice(index + 1);
    versions.add(this.current, index, { ...emptyAnswer("", "", []), content, state: "done", isEdited: true });
    this.current.turns = [...this.current.turns, ...rest];
    this.#save(this.current);
    this.#changed();
  }

  /** Go on with the last answer. */
  async resume() {
    const index = this.current.turns.length - 1;
    const answer = shownAnswer(this.current.turns[index]);
    if (this.isBusy || !canResume(answer)) return;
    Object.assign(answer, { state: "running", finish: null, error: null, stats: null, isResumed: true });
    await this.#run(index, [[answer, { continues: true, again: 1 }]]);
  }

  stop() {
    this.#jobs.get(this.current.id)?.stop();
  }

  showVersion(index, to) {
    if (this.isBusy) return; // what is being written stays in sight
    versions.show(this.current, index, to);
    this.#save(this.current);
    this.#changed();
  }

  /** Delete a question with its answer, an answer, or one of several versions. */
  removeTurn(index) {
    const { current } = this;
    const before = structuredClone(current.turns);
    versions.remove(current, index);
    this.undo = () => {
      current.turns = before;
      this.undo = null;
      this.#save(current);
      this.#changed();
    };
    this.#save(current);
    this.#changed();
  }

  /** The last deletion is not taken back. */
  keepDeleted() {
    this.undo = null;
    this.#changed();
  }

  #answer(index, how = {}) {
    const { current } = this;
    const { model, mode, options } = { ...current, ...how };
    const found = this.catalogue.find(model);
    const answer = emptyAnswer(model, mode, found?.sources ?? [], options);
    const others = this.compares && found?.kind === "fusion" ? found.sources : [];
    if (others.length) answer.beside = others.map((name) => emptyAnswer(model, "single", [name], options));
    versions.place(current, index, answer);
    this.undo = null;
    if (current.model) keep("model", current.model);
    const again = versions.countOf(current.turns[index]) - 1;
    const beside = others.map((only, at) => [answer.beside[at], { again, only }]);
    return this.#run(index, [[answer, { again }], ...beside]);
  }

  async #run(index, answers) {
    const { current } = this;
    const job = new Job(current, index, (conversation) => this.listing.saveRunning(conversation));
    this.#jobs.set(current.id, job);
    this.announcement = "Answering";
    this.#touch(current);
    this.#changed();
    const isOver = { now: false };
    this.#watchLoading(answers.map(([answer]) => answer), isOver);
    await Promise.all(answers.map(([answer, how]) => job.write(answer, how, (one) => this.#choose(current, one))));
    isOver.now = true;
    this.#jobs.delete(current.id);
    this.announcement = spoken(answers[0][0]);
    await this.#touch(current);
    this.#changed();
    if (this.models.some(({ isLoaded, id }) => !isLoaded && id === current.model)) this.refresh();
  }

  /** Choose the default model for a question asked before the list of models arrived. */
  async #choose(conversation, answer) {
    if (answer.model) return;
    await this.refresh();
    conversation.model ||= this.catalogue.usual;
    if (!conversation.model) throw this.catalogue.error ?? new ApiError("refused", "The server has no models.");
    answer.model = conversation.model;
    answer.sources = this.modelOf(conversation)?.sources ?? [];
  }

  /** Show how far a cold model has been loaded, until its first words come. */
  async #watchLoading(answers, isOver) {
    for (;;) {
      await new Promise((done) => setTimeout(done, LOADING_MS));
      const [first] = answers;
      if (isOver.now || first.waited !== null || first.isResumed) return;
      const share = first.model ? await loadingOf(first.model) : null;
      for (const answer of answers.filter(({ waited }) => waited === null)) {
        answer.loading = share;
        tell(answer);
      }
    }
  }

  // Storage

  async #touch(conversation) {
    conversation.updated = Date.now();
    if (conversation === this.current && location.hash.slice(1) !== conversation.id)
      history.replaceState(null, "", `#${conversation.id}`);
    await this.#save(conversation);
  }

  async #save(conversation) {
    await this.listing.save(conversation);
    this.#changed();
  }

  /** A stored conversation, or the one that is open. */
  load(id) {
    return id === this.current.id ? this.current : this.listing.load(id);
  }

  async remove(id) {
    this.#jobs.get(id)?.stop();
    await this.listing.remove(id);
    if (this.current.id === id) this.startNew();
    this.#changed();
  }

  /** Import the conversations of a file. */
  async takeIn(file) {
    try {
      this.open(await this.listing.takeIn(file, this.current.model || this.catalogue.usual));
      this.say("");
    } catch (error) {
      this.say(`“${file.name}” was not imported. ${error.message}`);
    }
  }

  /** Show one line to the user; an empty text removes it. */
  say(notice) {
    this.notice = notice;
    this.listing.problem = "";
    this.#changed();
  }

  /** Announce a text to screen readers. */
  announce(text) {
    this.announcement = text;
    this.#changed();
  }
}

/** The announcement for screen readers when an answer ends; failures have their own alerts. */
function spoken(answer) {
  if (answer.state === "failed") return "";
  return `${answer.state === "stopped" ? "Stopped" : "Answer"}: ${answer.content}`;
}
