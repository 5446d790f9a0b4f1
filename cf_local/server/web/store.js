/**
 * Conversations saved in this browser (IndexedDB), and small settings (localStorage).
 *
 * A conversation has three records: its heading, for the list, its turns, and its words, for the
 * search. While an answer is written, only that answer is stored, under a key of its own. If the
 * browser stores nothing (some private windows), the page works without storage and says so.
 */

import { answersOf, wordsOf } from "./conversation.js";
import { packed, unpacked } from "./packing.js";

const HEADING = ["id", "title", "named", "created", "updated", "model", "mode", "system", "options"];

const STORES = ["headings", "turns", "words"];

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function finished(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new Error("The browser did not store it."));
  });
}

/** The conversations in this browser. Every method may raise what the browser raises. */
export class Store {
  #database;

  constructor(database) {
    this.#database = database;
  }

  static async open() {
    const request = indexedDB.open("cf-local", 2);
    request.onupgradeneeded = ({ oldVersion }) => {
      if (oldVersion < 1) {
        request.result.createObjectStore("headings", { keyPath: "id" });
        request.result.createObjectStore("turns");
      }
      request.result.createObjectStore("words");
    };
    const database = await done(request);
    database.onversionchange = () => database.close(); // a newer page in another tab
    return new Store(database);
  }

  /** All headings, the latest first. */
  async headings() {
    const all = await done(this.#at("readonly", ["headings"]).objectStore("headings").getAll());
    return all.sort((a, b) => b.updated - a.updated);
  }

  /** A whole conversation, or null. */
  async load(id) {
    const transaction = this.#at("readonly", ["headings", "turns"]);
    const [heading, turns, running] = await Promise.all([
      done(transaction.objectStore("headings").get(id)),
      done(transaction.objectStore("turns").get(id)),
      done(transaction.objectStore("turns").get(`${id}/running`)),
    ]);
    if (!heading) return null;
    const found = unpacked(turns ?? []);
    const open = found.flatMap(answersOf).filter(({ state }) => state === "running");
    running?.forEach((answer, at) => open[at] && Object.assign(open[at], answer));
    return { ...heading, turns: found };
  }

  async save(conversation) {
    const transaction = this.#at("readwrite", STORES);
    const heading = Object.fromEntries(HEADING.map((name) => [name, conversation[name]]));
    transaction.objectStore("headings").put(heading);
    transaction.objectStore("turns").put(packed(conversation.turns), conversation.id);
    transaction.objectStore("turns").delete(`${conversation.id}/running`);
    transaction.objectStore("words").put(wordsOf(conversation), conversation.id);
    await finished(transaction);
  }

  /** Store what has come of the answers that are being written; the rest is stored already. */
  async saveRunning(conversation) {
    const transaction = this.#at("readwrite", ["turns"]);
    const running = conversation.turns.flatMap(answersOf).filter(({ state }) => state === "running");
    transaction.objectStore("turns").put(running.map(({ beside, after, ...answer }) => answer), `${conversation.id}/running`);
    await finished(transaction);
  }

  async remove(id) {
    const transaction = this.#at("readwrite", STORES);
    transaction.objectStore("headings").delete(id);
    transaction.objectStore("turns").delete(id);
    transaction.objectStore("turns").delete(`${id}/running`);
    transaction.objectStore("words").delete(id);
    await finished(transaction);
  }

  /** The words of each conversation, by its id. */
  async words() {
    const store = this.#at("readonly", ["words"]).objectStore("words");
    const [ids, texts] = await Promise.all([done(store.getAllKeys()), done(store.getAll())]);
    const found = new Map(ids.map((id, at) => [id, texts[at]]));
    for (const { id } of await this.headings()) {
      if (!found.has(id)) found.set(id, wordsOf(await this.load(id))); // stored by an earlier version
    }
    return found;
  }

  #at(how, stores) {
    return this.#database.transaction(stores, how);
  }
}

/** The same interface for a browser that stores nothing. */
export class Forgetful {
  #kept = new Map();

  async headings() {
    return [...this.#kept.values()].sort((a, b) => b.updated - a.updated);
  }

  async load(id) {
    return this.#kept.get(id) ?? null;
  }

  async save(conversation) {
    this.#kept.set(conversation.id, conversation);
  }

  async saveRunning() {}

  async words() {
    return new Map([...this.#kept].map(([id, one]) => [id, wordsOf(one)]));
  }

  async remove(id) {
    this.#kept.delete(id);
  }
}

/** A small setting that outlives the page; null if there is none. */
export function recall(name) {
  try {
    return localStorage.getItem(`cf-local.${name}`);
  } catch {
    return null;
  }
}

/** Store a small setting; null removes it. */
export function keep(name, value) {
  try {
    if (value === null || value === "") localStorage.removeItem(`cf-local.${name}`);
    else localStorage.setItem(`cf-local.${name}`, value);
  } catch {
    // this browser stores nothing
  }
}
