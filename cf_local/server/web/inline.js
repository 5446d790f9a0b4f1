/** Makes nodes of what is inside a block: words, emphasis, code, links, formulas. */

import { runs, signed } from "./nodes.js";

/** Blocks and spans in one another; what is nested more deeply stays text. */
export const DEEPEST = 24;
const SCHEMES = /^(?:https?:\/\/|mailto:)/i;

/** Works on the nodes of Lezer. `cutter.cut(from, to, text)` cuts the text at `base + from`. */
export class Inline {
  text;
  base;
  cutter;
  depth = 0;

  constructor(text, base, cutter) {
    this.text = text;
    this.base = base;
    this.cutter = cutter;
  }

  make(kind, node, more) {
    return signed({ kind, from: node.from + this.base, to: node.to + this.base, ...more });
  }

  source(node) {
    return this.text.slice(node.from, node.to);
  }

  formula(node, isBlock) {
    const source = this.source(node);
    const tex = source.trim().replace(/^(?:\$\$?|\\[([])/, "").replace(/(?:\$\$?|\\[)\]])$/, "");
    const isWhole = !isBlock || /(?:\$\$|\\\])\s*$/.test(source.slice(2));
    const isDisplayed = isBlock || /^(?:\$\$|\\\[)/.test(source);
    return this.make("math", node, { parts: this.cut(node.from, node.to), tex: isWhole ? tex : "", isBlock, isDisplayed });
  }

  /** What is in a block between two places, as leaves of text and spans. */
  inline(node, from, to, keepsMarks = false) {
    const found = [];
    let at = from;
    for (let each = node.firstChild; each; each = each.nextSibling) {
      if (each.from < at || each.to > to) continue;
      this.words(found, at, each.from);
      this.span(found, each, keepsMarks);
      at = each.to;
      if (/^(?:Task|Quote)Mark/.test(each.name)) while (this.text[at] === " ") at += 1;
    }
    this.words(found, at, to);
    return found.flatMap((one) => (Array.isArray(one) ? runs("text", one) : [one]));
  }

  verbatim(node) {
    const found = [];
    this.words(found, node.from, node.to);
    return found.flatMap((parts) => runs("text", parts));
  }

  span(found, node, keepsMarks) {
    const add = (kind, more) => found.push(this.make(kind, node, more));
    switch (node.name) {
      case "Emphasis":
      case "StrongEmphasis":
      case "Strikethrough":
        if (this.depth >= DEEPEST) {
          this.words(found, node.from, node.to);
          return;
        }
        this.depth += 1;
        add(node.name === "Emphasis" ? "em" : node.name === "StrongEmphasis" ? "strong" : "del", { children: this.inline(node, node.from, node.to) });
        this.depth -= 1;
        return;
      case "InlineCode": {
        const [open, close] = [node.firstChild, node.lastChild];
        add("span", { children: runs("text", this.cut(open.to, close.from)) });
        return;
      }
      case "Formula":
        found.push(this.formula(node, false));
        return;
      case "Link":
      case "Image":
      case "Autolink":
      case "URL":
        this.link(found, node);
        return;
      case "TaskMarker":
        add("check", { isDone: /x/i.test(this.source(node)), children: [] });
        return;
      case "HardBreak":
        this.words(found, node.to - 1, node.to);
        return;
      case "Entity":
        this.put(found, node.from, node.to, decoded(this.source(node)));
        return;
      case "Escape":
        this.put(found, node.from, node.to, this.source(node).slice(1));
        return;
      case "HTMLTag":
        if (/^<br\s*\/?>$/i.test(this.source(node))) this.put(found, node.from, node.to, "\n");
        else this.words(found, node.from, node.to);
        return;
      default:
        if (keepsMarks || !/^(?:Header|Quote|Emphasis|Strikethrough)Mark$/.test(node.name)) this.words(found, node.from, node.to);
    }
  }

  /** A link to a web or mail address; others are shown as they were written. Nothing is loaded. */
  link(found, node) {
    const url = node.name === "URL" ? node : node.getChild("URL");
    const marks = node.getChildren("LinkMark");
    const address = url ? this.source(url).replace(/^<|>$/g, "") : "";
    const href = /^www\./i.test(address) ? `https://${address}` : /^[^\s:/@]+@[^\s:/@]+$/.test(address) ? `mailto:${address}` : address;
    if (!SCHEMES.test(href)) {
      found.push(...this.inline(node, node.from, node.to, true).flatMap((one) => (one.kind === "text" ? [one.parts] : [one])));
      return;
    }
    const isNamed = node.name === "Link" || node.name === "Image";
    const [from, to] = isNamed ? [marks[0].to, marks[1].from] : [url.from, url.to];
    const children = url.from >= from && url.to <= to ? runs("text", this.cut(from, to)) : this.inline(node, from, to);
    found.push(this.make(node.name === "Image" ? "picture" : "link", node, { href, children }));
  }

  /** Text without the indentation of its lines. */
  words(found, from, to) {
    let at = from;
    for (const gap of this.text.slice(from, to).matchAll(/[ \t]*\n[ \t]*/g)) {
      const line = from + gap.index + gap[0].indexOf("\n");
      this.put(found, at, from + gap.index);
      this.put(found, line, line + 1);
      at = from + gap.index + gap[0].length;
    }
    this.put(found, at, to);
  }

  put(found, from, to, text) {
    if (to <= from) return;
    if (!Array.isArray(found.at(-1))) found.push([]);
    found.at(-1).push(...this.cut(from, to, text));
  }

  cut(from, to, text) {
    return this.cutter.cut(from + this.base, Math.min(to, this.text.length) + this.base, text);
  }
}

/** The character of an entity such as `&amp;`; a document that is never shown decodes it. */
function decoded(entity) {
  return new DOMParser().parseFromString(entity, "text/html").body.textContent || entity;
}
