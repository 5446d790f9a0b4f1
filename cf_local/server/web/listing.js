/** The conversations that this browser stores: their list, files, and what other tabs change. */

import { imported, mended } from "./conversation.js";
import { Forgetful, keep, Store } from "./store.js";

const AROUND = 40; // characters of context of a word that was searched for

export class Listing {
  headings = [];
  isForgetful = false;
  problem = ""; // why the last conversation was not stored
  #store = new Forgetful();
  #removed = new Set(); // conversations that a running answer must not restore
  #others = "BroadcastChannel" in window ? new BroadcastChannel("cf-local") : null;

  /** Open the storage; `onChange(id)` is called when another tab changes a conversation. */
  async open(onChange) {
    this.#others?.addEventListener("message", ({ data }) => onChange(data));
    try {
      this.#store = await Store.open();
    } catch {
      this.isForgetful = true;
    }
    await this.refresh();
  }

  async refresh() {
    this.headings = await this.#store.headings();
  }

  /** A stored conversation, or null. `isRunning`: another tab may be writing its answer. */
  async load(id, isRunning = false) {
    const found = await this.#store.load(id);
    return found && mended(found, isRunning);
  }

  async save(conversation) {
    if (this.#removed.has(conversation.id)) return;
    await this.#guard(() => this.#store.save(conversation));
    this.#others?.postMessage(conversation.id);
    await this.refresh();
  }

  /** Store the running answers only. */
  async saveRunning(conversation) {
    if (this.#removed.has(conversation.id)) return;
    await this.#guard(() => this.#store.saveRunning(conversation));
    this.#others?.postMessage(conversation.id);
  }

  async remove(id) {
    this.#removed.add(id);
    await this.#guard(() => this.#store.remove(id));
    this.#others?.postMessage(id);
    keep(`draft.${id}`, null);
    await this.refresh();
  }

  /** Import the conversations of a file; returns the id of the first. Raises an Error. */
  async takeIn(file, model) {
    const found = imported(await file.text(), model);
    for (const conversation of found) await this.#store.save(conversation);
    await this.refresh();
    return found[0].id;
  }

  /** The conversations that contain all words of a text, each `{id, before, match, after}`. */
  async search(text) {
    const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
    const found = [];
    const words = await this.#store.words();
    for (const { id } of this.headings) {
      const all = words.get(id) ?? "";
      const lower = all.toLowerCase();
      if (lower.length === all.length && wanted.every((word) => lower.includes(word))) found.push({ id, ...around(all, lower, wanted[0]) });
    }
    return found;
  }

  async #guard(action) {
    try {
      await action();
      this.problem = "";
    } catch (error) {
      this.problem = `The browser did not keep this conversation (${error.name}). Export it if you need it.`;
    }
  }
}

/** A match in what was said (or else in the title), with some of its context. */
function around(all, lower, word) {
  const body = lower.indexOf(word, all.indexOf("\n") + 1);
  const at = body < 0 ? lower.indexOf(word) : body;
  const start = Math.max(0, at - AROUND);
  const end = at + word.length;
  return {
    before: (start ? "…" : "") + all.slice(start, at),
    match: all.slice(at, end),
    after: all.slice(end, end + AROUND),
  };
}
