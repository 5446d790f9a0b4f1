/** The pieces of an answer's text: each knows its segment and has the colour of its winner. */

import { isDisputed, winnersOf } from "./answer.js";
import { html } from "./html.js";
import { letter, visible } from "./visible.js";

const COLOURS = 8;

/** The class of a source's colour and line. */
export function colourOf(index) {
  return `w w${index % COLOURS}`;
}

/** The parts of a leaf. `inside(part, text)` draws the text of a part, if it is not just text. */
export function Parts({ parts, context, inside }) {
  return parts.map((part) => html`<${Piece} part=${part} context=${context} inside=${inside} />`);
}

function Piece({ part, context, inside }) {
  const { text, index } = part;
  const segment = context.segments[index];
  if (!segment) return inside ? inside(part, text) : visible(text);
  if (!text) return html`<${Mark} index=${index} context=${context} />`;
  if (!text.trim() && segment.text.trim()) return visible(text);
  const indices = winnersOf(segment, context.sources);
  const [before, body, after] = split(text);
  const kind = indices.length && body.trim() ? colourOf(indices[0]) : isDisputed(segment) ? "d" : "";
  return html`${visible(before)}<span class=${`s ${kind}`} data-i=${index}
    data-l=${lettersOf(indices)}>${inside ? inside(part, body) : visible(body)}</span>${visible(after)}`;
}

/** What stands for a disputed segment whose text is not seen, such as a mark of Markdown. */
export function Mark({ index, context }) {
  const segment = context.segments[index];
  if (!segment || !isDisputed(segment)) return null;
  const indices = winnersOf(segment, context.sources);
  const sign = !segment.text.trim() && segment.ends ? "∎" : "◆";
  const kind = sign === "∎" ? "end" : `mark ${indices.length ? colourOf(indices[0]) : "d"}`;
  return html`<span class=${`s ${kind}`} data-i=${index} data-l=${sign === "∎" ? null : lettersOf(indices)}>${sign}</span>`;
}

function lettersOf(indices) {
  return indices.length ? indices.map(letter).join("") : null;
}

/** A piece without underlined spaces at its ends; a piece of only spaces is unchanged. */
function split(text) {
  const body = text.trim();
  if (!body) return ["", text, ""];
  const at = text.indexOf(body);
  return [text.slice(0, at), body, text.slice(at + body.length)];
}
