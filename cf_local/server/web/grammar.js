/** The grammar of Markdown: CommonMark, tables, task lists, strikethrough, bare links, and formulas. */

import { GFM, parser as commonmark } from "./vendor/lezer-markdown.js";

// A line that opens a formula of its own, unless more text follows the formula on that line.
const FORMULA = /^(?:\$\$(?!.*\$\$.*\S)|\\\[(?!.*\\\].*\S))/;
const INLINE = [
  /^\\\(([^]+?)\\\)/,
  /^\\\[([^]+?)\\\]/,
  /^\$\$((?:[^$\\]|\\[^])+)\$\$/,
  /^\$(?!\s)((?:[^$\\]|\\[^])*[^$\\\s])\$(?!\d)/,
];
const LONGEST = 2000; // characters of a formula inside a line

const math = {
  defineNodes: [{ name: "Formula" }, { name: "FormulaBlock", block: true }],
  parseInline: [
    {
      name: "Formula",
      before: "Escape",
      parse(context, next, at) {
        if (next !== 36 && next !== 92) return -1; // $ and \
        const rest = context.slice(at, Math.min(context.end, at + LONGEST));
        for (const form of INLINE) {
          const found = form.exec(rest);
          if (found) return context.addElement(context.elt("Formula", at, at + found[0].length));
        }
        return -1;
      },
    },
  ],
  parseBlock: [
    {
      name: "FormulaBlock",
      before: "FencedCode",
      endLeaf: (_context, line) => FORMULA.test(line.text.slice(line.pos)),
      parse(context, line) {
        const open = FORMULA.exec(line.text.slice(line.pos))?.[0];
        if (!open) return false;
        const close = open === "$$" ? "$$" : "\\]";
        const from = context.lineStart + line.pos;
        let rest = line.text.slice(line.pos + 2);
        let to = context.lineStart + line.text.length;
        while (!rest.includes(close)) {
          if (!context.nextLine() || line.depth < context.depth || !line.text.trim()) {
            context.addElement(context.elt("FormulaBlock", from, to));
            return true; // without an end: shown as it is
          }
          rest = line.text;
          to = context.lineStart + line.text.length;
        }
        context.nextLine();
        context.addElement(context.elt("FormulaBlock", from, to));
        return true;
      },
    },
  ],
};

const parser = commonmark.configure([GFM, math, { remove: ["HTMLBlock"] }]);

/** The blocks of a text, as nodes of Lezer. */
export function blocksOf(text) {
  const found = [];
  for (let node = parser.parse(text).topNode.firstChild; node; node = node.nextSibling) found.push(node);
  return found;
}
