/** The text of an answer, and the ways to its pieces: pointer, touch and keyboard. */

import { choice, layoutOf, shownRange, winnersOf } from "./answer.js";
import { Nodes } from "./blocks.js";
import { html, useRef } from "./html.js";

/**
 * The whole text. Calls `onPoint(event kind, segment, element)` for the piece pointed at.
 *
 * Screen readers read it as plain text: it is one Tab stop, the arrow keys move between pieces,
 * and only the current piece is announced as a button.
 */
export function AnswerText({ answer, sources, onPoint }) {
  const root = useRef(null);
  const { growing, number, context } = layoutOf(answer, sources);
  const [from, to] = shownRange(answer);
  const hasPieces = answer.segments.length > 0;
  const awaits = answer.state === "running" && !choice(answer) && !answer.content && hasPieces;
  return html`<div class=${`text ${awaits ? "draft" : ""}`} key=${number} ref=${root}
    ...${hasPieces && {
      tabIndex: 0,
      role: "group",
      "aria-label": `Answer in ${to - from} pieces. Arrow keys move through them, up and down to disputed ones.`,
      onKeyDown: (event) => step(event, root.current, answer, sources, onPoint),
      onClick: (event) => point("click", event, onPoint),
      onMouseOver: (event) => point("over", event, onPoint),
      onMouseLeave: () => onPoint("leave"),
    }}>
    <${Nodes} nodes=${growing.blocks} context=${context} />
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

/** The elements of pieces, one for each piece, that are shown. */
function piecesIn(root) {
  const all = [...root.querySelectorAll(".s")].filter((one) => !one.matches(".mark") || one.getClientRects().length);
  return all.filter((one, at) => one.dataset.i !== all[at - 1]?.dataset.i);
}

function isMarked(one) {
  return one.matches(".w, .d, .end");
}

/** The disputed piece before or after one. */
export function neighbour(piece, by) {
  const all = piecesIn(piece.closest(".text"));
  const at = all.findIndex((one) => one.dataset.i === piece.dataset.i);
  return by < 0 ? all.slice(0, Math.max(at, 0)).findLast(isMarked) : all.slice(at + 1).find(isMarked);
}

/** The piece that an arrow key moves to. */
function target(root, current, key) {
  const all = piecesIn(root);
  const at = current ? all.findIndex((one) => one.dataset.i === current.dataset.i) : -1;
  const back = getComputedStyle(current ?? root).direction === "rtl" ? "ArrowRight" : "ArrowLeft";
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
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const current = pieceOf(event.target);
  if (!current && event.target !== root) return; // code, tables and buttons have keys of their own
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
  const text = segment.text.trim() || (segment.ends ? "end of the answer" : "a break");
  const names = winnersOf(segment, sources).map((index) => sources[index]);
  const who = names.length ? `${names.join(" and ")} won` : "all agreed";
  const others = segment.candidates.length - 1;
  return `${text}: ${who}${others > 0 ? `, ${others} other ${others > 1 ? "candidates" : "candidate"}` : ""}`;
}

/** Move the keyboard focus back to a piece. */
export function focusPiece(element, answer, sources, onPoint) {
  if (element.isConnected) go(element, answer, sources, onPoint);
}
