/**
 * An answer in sections of prose and code, built while it streams.
 *
 * Model text stays text: the only markup is a fence around code, a line that starts with ``` or
 * ~~~. A piece of text knows its segment. Pieces are grouped in blocks of 64, so that a long
 * answer is redrawn only where it grows.
 */

const BLOCK = 64;
const OPENS = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const MAY_OPEN = /^ {0,3}(`{0,2}|`{3,}[^`]*|~{0,2}|~{3,}.*)$/;

export class Layout {
  sections = [];
  #held = []; // pieces of a line that may become a fence; null later in a line
  #fence = null; // the one that opened the code we are in

  /** Add the text of a segment. */
  push(text, index) {
    if (text === "") this.#add("", index); // its mark: the answer may end here
    for (const part of text.split(/(?<=\n)/)) if (part) this.#part(part, index);
  }

  /** End the text: show what is held back. */
  finish() {
    if (this.#held?.length && !this.#turn(this.#held.map((piece) => piece.text).join(""))) this.#release();
    this.#held = null;
    this.#trim();
  }

  #part(text, index) {
    const ends = text.endsWith("\n");
    if (this.#held) {
      this.#held.push({ text, index });
      const line = this.#held.map((piece) => piece.text).join("").replace(/\n$/, "");
      if (ends && this.#turn(line)) this.#held = [];
      else if (ends || !this.#mayBeFence(line)) this.#release();
    } else {
      this.#add(text, index);
    }
    if (ends) this.#held = [];
  }

  #mayBeFence(line) {
    if (this.#fence === null) return MAY_OPEN.test(line);
    return line.trim() === "" ? line.length < 4 : this.#isOfFence(line, 1);
  }

  #isOfFence(line, atLeast) {
    const marks = line.trim();
    return marks.length >= atLeast && [...marks].every((mark) => mark === this.#fence[0]);
  }

  /** Whether the line is a fence; if so, a section starts. */
  #turn(line) {
    if (this.#fence !== null) {
      if (!this.#isOfFence(line, this.#fence.length)) return false;
      this.#fence = null;
      this.#begin("prose", "");
      return true;
    }
    const found = OPENS.exec(line);
    if (!found) return false;
    this.#fence = found[1];
    this.#begin("code", found[2].trim());
    return true;
  }

  #release() {
    for (const { text, index } of this.#held) this.#add(text, index);
    this.#held = null;
  }

  #begin(kind, language) {
    this.#trim();
    this.sections.push({ kind, language, blocks: [] });
  }

  /** Empty lines at the end of a section are not shown. */
  #trim() {
    for (const block of this.sections.at(-1)?.blocks.toReversed() ?? []) {
      for (const piece of block.pieces.toReversed()) {
        const shown = piece.text.replace(/\n\s*$/, "");
        if (shown !== piece.text) block.version += 1;
        piece.text = shown;
        if (shown.trim()) return;
      }
    }
  }

  #add(text, index) {
    if (!this.sections.length) this.#begin("prose", "");
    const { kind, blocks } = this.sections.at(-1);
    if (kind === "prose" && !blocks.length && text) {
      text = text.trimStart(); // nor are spaces at its start
      if (!text) return;
    }
    let block = blocks.at(-1);
    const last = block?.pieces.at(-1);
    if (last?.index === index && index >= 0) {
      last.text += text;
    } else {
      if (!block || block.pieces.length >= BLOCK) blocks.push((block = { pieces: [], version: 0 }));
      block.pieces.push({ text, index });
    }
    block.version += 1;
  }
}
