/** The piece of a text that a pointer, a finger or the keyboard has reached, and its card. */

import { isDisputed } from "./answer.js";
import { focusPiece, neighbour } from "./answertext.js";
import { Details } from "./details.js";
import { html, useCallback, useEffect, useRef, useState } from "./html.js";

const HOVER_MS = 140;
let closeOther = () => {}; // only one card is open at a time

/**
 * The piece of a text that is pointed at, with its card.
 *
 * Returns `onPoint` for the text (see `AnswerText`), `show` to open the card of another element, and
 * the `card` to draw, if one is open.
 */
export function usePointing(answer, sources) {
  const [point, setPoint] = useState(null); // {index, piece, isPinned}
  const timer = useRef(0);
  const later = (what, delay) => {
    clearTimeout(timer.current);
    timer.current = setTimeout(what, delay);
  };
  const show = (index, piece, isPinned) => {
    clearTimeout(timer.current);
    closeOther();
    closeOther = () => setPoint(null);
    setPoint({ index, piece, isPinned });
  };
  const unpinned = () => setPoint((now) => (now?.isPinned ? now : null));
  const onPoint = (kind, index, piece) => {
    if (kind === "leave") later(unpinned, 250);
    else if (kind === "away") setPoint(null);
    else if (kind === "over") {
      if (isDisputed(answer.segments[index]) && !point?.isPinned) later(() => show(index, piece, false), HOVER_MS);
    } else if (kind === "enter") {
      show(index, piece, true);
      setTimeout(() => document.querySelector(".card h3")?.focus(), 50);
    } else if (kind === "click" && !getSelection().isCollapsed) return;
    else if (kind === "click") focusPiece(piece, answer, sources, onPoint);
    else show(index, piece, true);
  };
  const close = (returns) => {
    setPoint(null);
    if (!returns || !point) return;
    if (point.piece.matches(".s")) focusPiece(point.piece, answer, sources, () => {});
    else point.piece.focus(); // the button of the choice
  };
  const onClose = useCallback(close, [point]);
  useEffect(() => {
    const all = point?.piece.closest(".text")?.querySelectorAll(`[data-i="${point.index}"]`) ?? [];
    for (const one of all) one.classList.add("on");
    return () => {
      for (const one of all) one.classList.remove("on");
    };
  }, [point]);
  const onStep = (by) => {
    const next = neighbour(point.piece, by);
    if (next) show(Number(next.dataset.i), next, true);
    next?.scrollIntoView({ block: "nearest" });
  };
  const card = point && html`<${Details} answer=${answer} ...${point} sources=${sources} onClose=${onClose} onStep=${onStep}
    onEnter=${() => clearTimeout(timer.current)} onLeave=${() => later(unpinned, 250)} />`;
  return { onPoint, show, card };
}
