/**
 * Conversations saved in this browser (IndexedDB), and small settings (localStorage).
 *
 * A conversation has two records: its heading, for the list, and its turns. If the browser stores
 * nothing (some private windows), the page works without storage and says so.
 */

const HEADING = ["id", "title", "named", "created", "updated", "model", "mode", "system", "temperature", "maxTokens"];

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
    const request = indexedDB.open("cf-local", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("headings", { keyPath: "id" });
      request.result.createObjectStore("turns");
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
    const [heading, turns] = await Promise.all([
      done(transaction.objectStore("headings").get(id)),
      done(transaction.objectStore("turns").get(id)),
    ]);
    return heading ? { ...heading, turns: turns ?? [] } : null;
  }

  async save(conversation) {
    const transaction = this.#at("readwrite", ["headings", "turns"]);
    const heading = Object.fromEntries(HEADING.map((name) => [name, conversation[name]]));
    transaction.objectStore("headings").put(heading);
    transaction.objectStore("turns").put(conversation.turns, conversation.id);
    await finished(transaction);
  }

  async remove(id) {
    const transaction = this.#at("readwrite", ["headings", "turns"]);
    transaction.objectStore("headings").delete(id);
    transaction.objectStore("turns").delete(id);
    await finished(transaction);
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
