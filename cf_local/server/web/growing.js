/**
 * An answer as Markdown, built while it streams.
 *
 * Segments are added one by one; `blocks` are the nodes to draw (see `markdown.js`). Only what may
 * still change is parsed again: the last block, and one before it while a line is incomplete.
 */

import { blocksOf } from "./grammar.js";
import { Builder } from "./markdown.js";
import { signed } from "./nodes.js";

// A last line that may yet turn out to be markup is not shown until more of it is there.
const UNDECIDED = /^[ \t>]*(?:`{1,2}|~{1,2}|`{3}[^`\n]*|~{3}[^\n]*|[-*+=_ \t]+|#{1,6}|\d{1,9}[.)]?|\\|\$\$?)$/;

const SLOW_MS = 30;

/** Cuts the text where segments meet; remembers which segments have been shown. */
class Cutter {
  next = 0; // the first segment that no text has shown
  #growing;

  constructor(growing) {
    this.#growing = growing;
  }

  /** The parts of the text between two places; `text` replaces what is written there. */
  cut(from, to, text = null) {
    const { segments } = this.#growing;
    const found = [];
    let at = this.next;
    while (at > 0 && segments[at - 1].to > from) at -= 1;
    for (let start = from; start < to; ) {
      while (at < segments.length && segments[at].to <= start) at += 1;
      this.#pass(found, at);
      const segment = segments[at] ?? { to, index: -1 };
      const end = text === null ? Math.min(to, segment.to) : to;
      found.push({ from: start, to: end, text: text ?? this.#growing.text.slice(start, end), index: segment.index });
      this.next = Math.max(this.next, Math.min(at + 1, segments.length));
      start = end;
    }
    return found;
  }

  /** The segments that are left at the end. */
  rest() {
    const found = [];
    this.#pass(found, this.#growing.segments.length);
    return found;
  }

  /** Segments without visible text get a part all the same: they may have been disputed. */
  #pass(found, until) {
    for (; this.next < until; this.next += 1) {
      const { from, index } = this.#growing.segments[this.next];
      if (index >= 0) found.push({ from, to: from, text: "", index });
    }
  }
}

export class Growing {
  text = "";
  segments = []; // {from, to, index}
  #blocks = [];
  #nSettled = 0; // blocks that cannot change any more
  #tail = 0; // where the others begin
  #nShown = 0; // segments shown by settled blocks
  #isStale = true;
  #notBefore = 0; // when it may be parsed again, if that takes long
  #isWhole = false;

  /** Add the text of a segment. */
  push(text, index) {
    if (this.text === "") text = text.trimStart();
    const from = this.text.length;
    this.text += text;
    if (index >= 0 || !this.segments.length) this.segments.push({ from, to: this.text.length, index });
    else this.segments.at(-1).to = this.text.length;
    this.#isStale = true;
  }

  /** There will be more text after all. */
  reopen() {
    this.#isStale ||= this.#isWhole;
    this.#isWhole = false;
  }

  /** The text is complete. */
  finish() {
    this.#isStale ||= !this.#isWhole;
    this.#isWhole = true;
  }

  /** The blocks of the text so far. */
  get blocks() {
    const start = performance.now();
    if (!this.#isStale || (!this.#isWhole && start < this.#notBefore)) return this.#blocks;
    this.#parse();
    this.#isStale = false;
    const end = performance.now();
    this.#notBefore = end - start > SLOW_MS ? end + 10 * (end - start) : 0;
    return this.#blocks;
  }

  #parse() {
    let tail = this.text.slice(this.#tail);
    const line = tail.lastIndexOf("\n") + 1;
    if (!this.#isWhole && UNDECIDED.test(tail.slice(line))) tail = tail.slice(0, line);
    const cutter = new Cutter(this);
    cutter.next = this.#nShown;
    const builder = new Builder(tail, this.#tail, cutter);
    const found = blocksOf(this.#isWhole ? tail : closed(tail, line));
    const base = this.#tail;
    this.#blocks.length = this.#nSettled;
    found.forEach((block, at) => {
      this.#blocks.push(builder.block(block));
      if (!(found[at + 1]?.from < line)) return;
      this.#nSettled = this.#blocks.length; // a complete line follows it
      this.#nShown = cutter.next;
      this.#tail = base + found[at + 1].from;
    });
    if (this.#isWhole) this.#end(cutter.rest());
  }

  /** Put the marks of segments without text at the end. */
  #end(parts) {
    if (!parts.length) return;
    const path = [this.#blocks.at(-1)];
    while (path.at(-1)?.children?.length && !/^(?:code|table|math)$/.test(path.at(-1).kind)) path.push(path.at(-1).children.at(-1));
    if (path.at(-1)?.kind === "text") {
      path.at(-1).parts.push(...parts);
      for (const node of path.reverse()) signed(node);
      return;
    }
    const { from } = parts[0];
    const leaf = signed({ kind: "text", from, to: from, parts });
    this.#blocks.push(signed({ kind: "rest", from, to: from, children: [leaf] }));
  }
}

/** The text with what is open in its last line closed, so that bold words are bold at once. */
function closed(text, line) {
  const last = text.slice(line);
  if (/^\s*(?:```|~~~)/.test(last)) return text;
  const rest = last.replace(/`[^`]*`/g, "");
  if (rest.includes("`")) return /`$/.test(rest) ? text : `${text}\``;
  const isOpen = rest.split("**").length % 2 === 0;
  return isOpen && !/(?:\*\*|[\s*])$/.test(rest) ? `${text}**` : text;
}
