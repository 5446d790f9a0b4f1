/** The text of an answer: every piece knows its segment and has the colour of its winner. */

import { choice, isDisputed, layoutOf, shownRange, winnersOf } from "./answer.js";
import { Component, Fragment, html, useRef } from "./html.js";
import { letter, visible } from "./visible.js";

const COLOURS = 8;

/** The class of a source's colour and line. */
export function colourOf(index) {
  return `w w${index % COLOURS}`;
}

function Piece({ text, segment, index, sources }) {
  const shown = visible(text);
  if (!segment) return shown;
  const indices = winnersOf(segment, sources);
  if (!shown) {
    if (!isDisputed(segment)) return null;
    return html`<span class="s end" data-i=${index}>∎</span>`;
  }
  const [before, body, after] = split(shown);
  const kind = indices.length && body.trim() ? colourOf(indices[0]) : isDisputed(segment) ? "d" : "";
  return html`${before}<span class=${`s ${kind}`} data-i=${index}
    data-l=${indices.length ? indices.map(letter).join("") : null}>${body}</span>${after}`;
}

/** A piece without underlined spaces at its ends; a piece of only spaces is unchanged. */
function split(text) {
  const body = text.trim();
  if (!body) return ["", text, ""];
  const at = text.indexOf(body);
  return [text.slice(0, at), body, text.slice(at + body.length)];
}

/** A block of 64 pieces; redrawn only when a piece is added. */
class Block extends Component {
  shouldComponentUpdate(next) {
    return next.version !== this.props.version || next.block !== this.props.block || next.sources !== this.props.sources;
  }

  render({ block, segments, sources }) {
    return block.pieces.map(
      ({ text, index }) => html`<${Piece} text=${text} index=${index} segment=${segments[index]} sources=${sources} />`,
    );
  }
}

function Section({ section, segments, sources }) {
  const blocks = section.blocks.map(
    (block, at) => html`<${Block} key=${at} block=${block} version=${block.version} segments=${segments} sources=${sources} />`,
  );
  if (section.kind === "prose") return html`<div class="prose" dir="auto">${blocks}</div>`;
  return html`<figure class="code">
    <figcaption>${visible(section.language) || "code"}</figcaption>
    <pre tabindex="0" dir="ltr"><code>${blocks}</code></pre>
  </figure>`;
}

/**
 * The whole text. Calls `onPoint(event kind, segment, element)` for the piece pointed at.
 *
 * Screen readers read it as plain text: it is one Tab stop, the arrow keys move between pieces,
 * and only the current piece is announced as a button.
 */
export function Pieces({ answer, sources, onPoint }) {
  const root = useRef(null);
  const { layout, number } = layoutOf(answer);
  const [from, to] = shownRange(answer);
  const hasPieces = answer.segments.length > 0;
  const sections = layout.sections.filter((section) => section.kind === "code" || section.blocks.length);
  const awaits = answer.state === "running" && !choice(answer) && !answer.content && hasPieces;
  return html`<div class=${`text ${awaits ? "draft" : ""}`} key=${number} ref=${root}
    ...${hasPieces && {
      tabIndex: 0,
      role: "group",
      "aria-label": `Answer in ${to - from} pieces. Arrow keys go through them, up and down to disputed ones.`,
      onKeyDown: (event) => step(event, root.current, answer, sources, onPoint),
      onClick: (event) => point("click", event, onPoint),
      onMouseOver: (event) => point("over", event, onPoint),
      onMouseLeave: () => onPoint("leave"),
    }}>
    <${Fragment}>${sections.map((section, at) => html`<${Section} key=${at} section=${section} segments=${answer.segments} sources=${sources} />`)}<//>
  </div>`;
}

function pieceOf(node) {
  return node.closest?.(".s");
}

function point(kind, event, onPoint) {
  const element = pieceOf(event.target);
  if (element) onPoint(kind, Number(element.dataset.i), element);
  else onPoint(kind === "over" ? "leave" : "away");
}

/** The piece that an arrow key moves to. */
function target(root, current, key) {
  const all = [...root.querySelectorAll(".s")];
  const at = all.indexOf(current);
  const back = getComputedStyle(current ?? root).direction === "rtl" ? "ArrowRight" : "ArrowLeft";
  const isMarked = (one) => one.matches(".w, .d, .end");
  switch (key) {
    case "ArrowLeft":
    case "ArrowRight":
      return key === back ? all[at - 1] : all[at + 1];
    case "ArrowDown":
      return all.slice(at + 1).find(isMarked);
    case "ArrowUp":
      return all.slice(0, Math.max(at, 0)).findLast(isMarked);
    case "Home":
      return all[0];
    case "End":
      return all.at(-1);
    default:
      return undefined;
  }
}

function step(event, root, answer, sources, onPoint) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("pre") === event.target) return;
  const current = pieceOf(event.target);
  if (current && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    onPoint("enter", Number(current.dataset.i), current);
    return;
  }
  if (!/^(Arrow|Home$|End$)/.test(event.key)) return;
  if (!current && (event.key === "ArrowUp" || event.key === "ArrowLeft")) return; // scrolls
  event.preventDefault();
  const next = target(root, current, event.key);
  if (next) go(next, answer, sources, onPoint);
}

function go(element, answer, sources, onPoint) {
  const index = Number(element.dataset.i);
  element.tabIndex = -1;
  element.setAttribute("role", "button");
  element.setAttribute("aria-label", spoken(answer.segments[index], sources));
  element.addEventListener("blur", () => {
    for (const name of ["role", "aria-label", "tabindex"]) element.removeAttribute(name);
  }, { once: true });
  element.focus({ preventScroll: true });
  element.scrollIntoView({ block: "nearest" });
  onPoint("focus", index, element);
}

function spoken(segment, sources) {
  const text = segment.text.trim() || "end of the answer";
  const names = winnersOf(segment, sources).map((index) => sources[index]);
  const who = names.length ? `${names.join(" and ")} won` : "all agreed";
  const others = segment.candidates.length - 1;
  return `${text}: ${who}${others > 0 ? `, ${others} other ${others > 1 ? "candidates" : "candidate"}` : ""}`;
}

/** Move the keyboard focus back to a piece. */
export function focusPiece(element, answer, sources, onPoint) {
  if (element.isConnected) go(element, answer, sources, onPoint);
}
