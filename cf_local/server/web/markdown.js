/**
 * Markdown as a tree of plain nodes, each with its place in the text.
 *
 * Lezer parses (see `grammar.js`). Of its tree only what this file names becomes a node; everything else, HTML too, stays text.
 * A node is `{kind, from, to, ...}` with `children` or, at the leaves, `parts` of the text as a
 * cutter makes them (see `growing.js`). `sign` changes when anything in the node does.
 */

const RUN = 64; // parts in one leaf: a long paragraph is redrawn only where it grows
const SCHEMES = /^(?:https?:\/\/|mailto:)/i;

/** Makes nodes from those of Lezer. `cutter.cut(from, to, text)` cuts the text at `base + from`. */
export class Builder {
  #text;
  #base;
  #cutter;

  constructor(text, base, cutter) {
    this.#text = text;
    this.#base = base;
    this.#cutter = cutter;
  }

  /** The node of a block. */
  block(node) {
    switch (node.name) {
      case "BulletList":
      case "OrderedList":
        return this.#list(node);
      case "Blockquote":
        return this.#make("quote", node, { children: this.#blocks(node) });
      case "FencedCode":
      case "CodeBlock":
        return this.#code(node);
      case "Table":
        return this.#table(node);
      case "HorizontalRule":
        return this.#make("rule", node, { children: [] });
      case "FormulaBlock":
        return this.#formula(node, true);
      default:
        return this.#prose(node);
    }
  }

  #make(kind, node, more) {
    return signed({ kind, from: node.from + this.#base, to: node.to + this.#base, ...more });
  }

  #source(node) {
    return this.#text.slice(node.from, node.to);
  }

  #blocks(node) {
    const found = [];
    for (let each = node.firstChild; each; each = each.nextSibling)
      if (!/Mark$/.test(each.name)) found.push(this.block(each));
    return found;
  }

  #list(node) {
    const isOrdered = node.name === "OrderedList";
    const items = [];
    const between = []; // texts between items: an empty line makes a list loose
    for (let item = node.firstChild, at = null; item; at = item.to, item = item.nextSibling) {
      if (item.name !== "ListItem") continue;
      if (at !== null) between.push(this.#text.slice(at, item.from));
      items.push(this.#make("item", item, { children: this.#blocks(item) }));
    }
    const start = isOrdered ? Number.parseInt(this.#source(node), 10) : null;
    const isLoose = between.some((gap) => gap.split("\n").length > 2);
    return this.#make(isOrdered ? "numbers" : "bullets", node, { children: items, start, isLoose });
  }

  #code(node) {
    const parts = [];
    let language = "";
    for (let each = node.firstChild; each; each = each.nextSibling) {
      if (each.name === "CodeInfo") language = this.#source(each);
      if (each.name === "CodeText") parts.push(...this.#cut(each.from, each.to));
    }
    const { firstChild, lastChild } = node;
    const isClosed = node.name === "CodeBlock" || (lastChild.name === "CodeMark" && lastChild.from > firstChild.from);
    return this.#make("code", node, { children: runs("text", parts), language, isClosed });
  }

  #table(node) {
    const rows = [];
    let sides = [];
    for (let row = node.firstChild; row; row = row.nextSibling) {
      if (row.name === "TableDelimiter") sides = this.#source(row).replace(/^\s*\||\|\s*$/g, "").split("|").map(side);
      else rows.push({ row, isHead: row.name === "TableHeader" });
    }
    const children = rows.map(({ row, isHead }) => this.#make("row", row, { isHead, children: this.#cells(row, sides, isHead) }));
    return this.#make("table", node, { children });
  }

  #cells(row, sides, isHead) {
    return row.getChildren("TableCell").map((cell, at) =>
      this.#make("cell", cell, { side: sides[at] ?? "", isHead, children: this.#inline(cell, cell.from, cell.to) }));
  }

  #formula(node, isBlock) {
    const source = this.#source(node);
    const tex = source.trim().replace(/^(?:\$\$?|\\[([])/, "").replace(/(?:\$\$?|\\[)\]])$/, "");
    const isWhole = !isBlock || /(?:\$\$|\\\])\s*$/.test(source.slice(2));
    const isDisplayed = isBlock || /^(?:\$\$|\\\[)/.test(source);
    return this.#make("math", node, { parts: this.#cut(node.from, node.to), tex: isWhole ? tex : "", isBlock, isDisplayed });
  }

  /** A paragraph, a heading, a task, or anything else as a paragraph. */
  #prose(node) {
    const level = Number(/^(?:ATX|Setext)Heading(\d)$/.exec(node.name)?.[1] ?? 0);
    let { from, to } = node;
    if (level) {
      const source = this.#source(node);
      if (node.name.startsWith("ATX")) {
        from += /^#*[ \t]*/.exec(source)[0].length;
        to = Math.max(from, to - (/(?:(?:^|[ \t])#+)?[ \t]*$/.exec(this.#text.slice(from, to))?.[0].length ?? 0));
      } else {
        to = from + source.lastIndexOf("\n");
      }
    }
    const children = this.#inline(node, from, to);
    return this.#make(level ? "heading" : "paragraph", node, { level, children });
  }

  /** What is in a block between two places, as leaves of text and spans. */
  #inline(node, from, to, keepsMarks = false) {
    const found = [];
    let at = from;
    for (let each = node.firstChild; each; each = each.nextSibling) {
      if (each.from < at || each.to > to) continue;
      this.#words(found, at, each.from);
      this.#span(found, each, keepsMarks);
      at = each.to;
      if (/^(?:Task|Quote)Mark/.test(each.name)) while (this.#text[at] === " ") at += 1;
    }
    this.#words(found, at, to);
    return found.flatMap((one) => (Array.isArray(one) ? runs("text", one) : [one]));
  }

  #span(found, node, keepsMarks) {
    const add = (kind, more) => found.push(this.#make(kind, node, more));
    switch (node.name) {
      case "Emphasis":
      case "StrongEmphasis":
      case "Strikethrough":
        add(node.name === "Emphasis" ? "em" : node.name === "StrongEmphasis" ? "strong" : "del", { children: this.#inline(node, node.from, node.to) });
        return;
      case "InlineCode": {
        const [open, close] = [node.firstChild, node.lastChild];
        add("span", { children: runs("text", this.#cut(open.to, close.from)) });
        return;
      }
      case "Formula":
        found.push(this.#formula(node, false));
        return;
      case "Link":
      case "Image":
      case "Autolink":
      case "URL":
        this.#link(found, node);
        return;
      case "TaskMarker":
        add("check", { isDone: /x/i.test(this.#source(node)), children: [] });
        return;
      case "HardBreak":
        this.#words(found, node.to - 1, node.to);
        return;
      case "Entity":
        this.#put(found, node.from, node.to, decoded(this.#source(node)));
        return;
      case "Escape":
        this.#put(found, node.from, node.to, this.#source(node).slice(1));
        return;
      case "HTMLTag":
        if (/^<br\s*\/?>$/i.test(this.#source(node))) this.#put(found, node.from, node.to, "\n");
        else this.#words(found, node.from, node.to);
        return;
      default:
        if (keepsMarks || !/^(?:Header|Quote|Emphasis|Strikethrough)Mark$/.test(node.name)) this.#words(found, node.from, node.to);
    }
  }

  /** A link to a web or mail address; others are shown as they were written. Nothing is loaded. */
  #link(found, node) {
    const url = node.name === "URL" ? node : node.getChild("URL");
    const marks = node.getChildren("LinkMark");
    const address = url ? this.#source(url).replace(/^<|>$/g, "") : "";
    const href = /^www\./i.test(address) ? `https://${address}` : /^[^\s:/@]+@[^\s:/@]+$/.test(address) ? `mailto:${address}` : address;
    if (!SCHEMES.test(href)) {
      found.push(...this.#inline(node, node.from, node.to, true).flatMap((one) => (one.kind === "text" ? [one.parts] : [one])));
      return;
    }
    const isNamed = node.name === "Link" || node.name === "Image";
    const [from, to] = isNamed ? [marks[0].to, marks[1].from] : [url.from, url.to];
    const children = url.from >= from && url.to <= to ? runs("text", this.#cut(from, to)) : this.#inline(node, from, to);
    found.push(this.#make(node.name === "Image" ? "picture" : "link", node, { href, children }));
  }

  /** Text without the indentation of its lines. */
  #words(found, from, to) {
    let at = from;
    for (const gap of this.#text.slice(from, to).matchAll(/[ \t]*\n[ \t]*/g)) {
      const line = from + gap.index + gap[0].indexOf("\n");
      this.#put(found, at, from + gap.index);
      this.#put(found, line, line + 1);
      at = from + gap.index + gap[0].length;
    }
    this.#put(found, at, to);
  }

  #put(found, from, to, text) {
    if (to <= from) return;
    if (!Array.isArray(found.at(-1))) found.push([]);
    found.at(-1).push(...this.#cut(from, to, text));
  }

  #cut(from, to, text) {
    return this.#cutter.cut(from + this.#base, Math.min(to, this.#text.length) + this.#base, text);
  }
}

/** Leaves of up to 64 parts. */
function runs(kind, parts) {
  const found = [];
  for (let at = 0; at < parts.length; at += RUN) {
    const some = parts.slice(at, at + RUN);
    found.push(signed({ kind, from: some[0].from, to: some.at(-1).to, parts: some }));
  }
  return found;
}

/** The node with its sign, which tells whether it must be drawn again. */
export function signed(node) {
  let sign = node.from ^ (node.isClosed ? 7 : 0) ^ (node.isLoose ? 14 : 0);
  const mix = (number) => (sign = Math.imul(sign ^ number, 0x01000193) ^ (sign >>> 15));
  for (const letter of node.kind) mix(letter.charCodeAt(0));
  for (const { from, to, index } of node.parts ?? []) mix(from), mix(to), mix(index);
  for (const child of node.children ?? []) mix(child.sign);
  mix(node.to);
  node.sign = sign;
  return node;
}

function side(dashes) {
  const [left, right] = [/^\s*:/.test(dashes), /:\s*$/.test(dashes)];
  return left && right ? "center" : right ? "end" : "";
}

/** The character of an entity such as `&amp;`; a document that is never shown decodes it. */
function decoded(entity) {
  return new DOMParser().parseFromString(entity, "text/html").body.textContent || entity;
}
