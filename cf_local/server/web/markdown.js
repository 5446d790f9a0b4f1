/**
 * Markdown as a tree of nodes, each with its place in the text.
 *
 * Lezer parses (see `grammar.js`). Only what this file and `inline.js` name in its tree becomes a
 * node; everything else, HTML too, stays text.
 */

import { DEEPEST, Inline } from "./inline.js";
import { runs } from "./nodes.js";

/** Makes nodes of blocks. */
export class Builder extends Inline {
  /** The node of a block; what is nested too deeply stays text. */
  block(node) {
    if (this.depth >= DEEPEST) return this.make("paragraph", node, { level: 0, children: this.verbatim(node) });
    this.depth += 1;
    const found = this.#block(node);
    this.depth -= 1;
    return found;
  }

  #block(node) {
    switch (node.name) {
      case "BulletList":
      case "OrderedList":
        return this.#list(node);
      case "Blockquote":
        return this.make("quote", node, { children: this.#blocks(node) });
      case "FencedCode":
      case "CodeBlock":
        return this.#code(node);
      case "Table":
        return this.#table(node);
      case "HorizontalRule":
        return this.make("rule", node, { children: [] });
      case "FormulaBlock":
        return this.formula(node, true);
      default:
        return this.#prose(node);
    }
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
      if (at !== null) between.push(this.text.slice(at, item.from));
      items.push(this.make("item", item, { children: this.#blocks(item) }));
    }
    const start = isOrdered ? Number.parseInt(this.source(node), 10) : null;
    const isLoose = between.some((gap) => gap.split("\n").length > 2);
    return this.make(isOrdered ? "numbers" : "bullets", node, { children: items, start, isLoose });
  }

  #code(node) {
    const parts = [];
    let language = "";
    for (let each = node.firstChild; each; each = each.nextSibling) {
      if (each.name === "CodeInfo") language = this.source(each);
      if (each.name === "CodeText") parts.push(...this.cut(each.from, each.to));
    }
    const { firstChild, lastChild } = node;
    const isClosed = node.name === "CodeBlock" || (lastChild.name === "CodeMark" && lastChild.from > firstChild.from);
    return this.make("code", node, { children: runs("text", parts), language, isClosed });
  }

  #table(node) {
    const rows = [];
    let sides = [];
    for (let row = node.firstChild; row; row = row.nextSibling) {
      if (row.name === "TableDelimiter") sides = this.source(row).replace(/^\s*\||\|\s*$/g, "").split("|").map(side);
      else rows.push({ row, isHead: row.name === "TableHeader" });
    }
    const children = rows.map(({ row, isHead }) => this.make("row", row, { isHead, children: this.#cells(row, sides, isHead) }));
    return this.make("table", node, { children });
  }

  #cells(row, sides, isHead) {
    return row.getChildren("TableCell").map((cell, at) =>
      this.make("cell", cell, { side: sides[at] ?? "", isHead, children: this.inline(cell, cell.from, cell.to) }));
  }

  /** A paragraph, a heading, a task, or anything else as a paragraph. */
  #prose(node) {
    const level = Number(/^(?:ATX|Setext)Heading(\d)$/.exec(node.name)?.[1] ?? 0);
    let { from, to } = node;
    if (level) {
      const source = this.source(node);
      if (node.name.startsWith("ATX")) {
        from += /^#*[ \t]*/.exec(source)[0].length;
        to = Math.max(from, to - (/(?:(?:^|[ \t])#+)?[ \t]*$/.exec(this.text.slice(from, to))?.[0].length ?? 0));
      } else {
        to = from + source.lastIndexOf("\n");
      }
    }
    const children = this.inline(node, from, to);
    return this.make(level ? "heading" : "paragraph", node, { level, children });
  }
}

function side(dashes) {
  const [left, right] = [/^\s*:/.test(dashes), /:\s*$/.test(dashes)];
  return left && right ? "center" : right ? "end" : "";
}
