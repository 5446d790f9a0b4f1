/** The card of one piece: what each source proposed, and how every source scored it. */

import { isDisputed, winnersOf } from "./answer.js";
import { html, useLayoutEffect, useRef } from "./html.js";
import { IconButton } from "./icons.js";
import { colourOf } from "./pieces.js";
import { letter, marked } from "./visible.js";

const GAP = 8; // pixels between a piece and its card

/** A source's letter in its colour, and its name. */
export function Badge({ index, name, isShort }) {
  return html`<span class=${`badge ${colourOf(index)}`} title=${isShort ? name : null}><b>${letter(index)}</b>${isShort ? html`<span class="sr"> ${name}</span>` : html`<span class="long"> ${name}</span>`}</span>`;
}

function score(value) {
  return value === null || value === undefined ? "–" : value.toFixed(3);
}

/** The score of a candidate by a source, as text: null is an impossible one, undefined one that was not needed. */
function scored(candidate, name) {
  if (candidate.scores?.[name] === null) return "∞";
  return score(candidate.scores?.[name]);
}

function Proposers({ candidate, sources }) {
  return candidate.sources.map((name) => {
    const index = sources.indexOf(name);
    return index < 0 ? html`<span class="badge">${name === "(fused)" ? "fused" : name}</span> ` : html`<${Badge} index=${index} name=${name} isShort /> `;
  });
}

function Row({ candidate, sources }) {
  return html`<tr class=${candidate.won ? "won" : ""}>
    <th scope="row" dir="auto"><span class="mark">${candidate.won ? "→" : ""}<span class="sr">${candidate.won ? "won: " : ""}</span></span><span class="words">${marked(candidate.text, candidate.ends)}</span></th>
    <td><${Proposers} candidate=${candidate} sources=${sources} /></td>
    <td class="n mean">${score(candidate.mean)}</td>
    ${sources.map((name) => html`<td class="n">${scored(candidate, name)}</td>`)}
  </tr>`;
}

function Table({ segment, sources }) {
  const rows = [...segment.candidates].sort((a, b) => b.won - a.won || (a.mean ?? Infinity) - (b.mean ?? Infinity));
  return html`<div class="scroll"><table>
    <thead><tr>
      <th scope="col">candidate</th><th scope="col">by</th><th scope="col" class="n">mean</th>
      ${sources.map((name, index) => html`<th scope="col" class="n"><${Badge} index=${index} name=${name} /></th>`)}
    </tr></thead>
    <tbody>${rows.map((candidate) => html`<${Row} candidate=${candidate} sources=${sources} />`)}</tbody>
  </table></div>`;
}

function summary(segment, sources) {
  if (!segment.winners.length) return "the end of the thinking";
  const names = winnersOf(segment, sources).map((index) => sources[index]);
  if (names.length) return `${names.join(" and ")} won`;
  if (segment.winners.includes("(fused)")) return "the fused answer won";
  return isAlone(segment, sources) ? `by ${segment.winners.join(" and ")}` : "all agreed";
}

function isAlone(segment, sources) {
  return sources.length < 2 || !segment.agreed;
}

function Undisputed({ segment, sources }) {
  const words = html`<span class="words">${marked(segment.text, segment.ends)}</span>`;
  if (!segment.winners.length) return html`<p>No source proposed ${words}: the limit for thinking was reached.</p>`;
  const others = (segment.asked ?? []).filter((name) => !segment.winners.includes(name));
  if (others.length) return html`<p>${others.join(" and ")} proposed nothing else: ${words}</p>`;
  if (isAlone(segment, sources)) return html`<p>No other source was asked: ${words}</p>`;
  return html`<p>Every source proposed ${words}, so nothing had to be scored.</p>`;
}

/** Place the card below the piece, or above if there is more room; on phones it is a sheet. */
function place(card, piece) {
  if (getComputedStyle(card).position === "fixed") return; // a sheet
  const frame = card.offsetParent.getBoundingClientRect();
  const lines = [...piece.getClientRects()];
  const [first, last] = [lines[0], lines.at(-1)];
  if (!first) return;
  const { width, height } = card.getBoundingClientRect();
  const isAbove = innerHeight - last.bottom < height + 150 && first.top > height + 80;
  const top = isAbove ? first.top - height - GAP : last.bottom + GAP;
  const column = card.closest(".column").getBoundingClientRect();
  const left = Math.min(Math.max(last.left - 12, frame.left), Math.max(column.left, column.right - width));
  card.style.top = `${top - frame.top}px`;
  card.style.left = `${left - frame.left}px`;
}

/** On a phone the card covers the end of the screen: scroll the piece out from under it. */
function uncover(card, piece) {
  if (getComputedStyle(card).position !== "fixed") return;
  const covered = piece.getBoundingClientRect().bottom + 24 - card.getBoundingClientRect().top;
  if (covered > 0) piece.closest(".thread")?.scrollBy({ top: covered });
}

/** The card itself. `onStep(-1 or 1)` goes to the next disputed piece. */
export function Details({ answer, index, piece, isPinned, sources, onClose, onStep, onEnter, onLeave }) {
  const card = useRef(null);
  const segment = answer.segments[index];
  useLayoutEffect(() => {
    place(card.current, piece);
    if (isPinned) uncover(card.current, piece);
  }, [answer, index, piece, isPinned]);
  useLayoutEffect(() => {
    const { dataset } = card.current.closest(".thread");
    dataset.card = "";
    return () => delete dataset.card;
  }, []);
  useLayoutEffect(() => {
    const close = (event) => {
      if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
      event.stopPropagation(); // only the card: Escape also stops answers
      onClose(card.current.contains(document.activeElement));
    };
    document.addEventListener("keydown", close, true);
    return () => document.removeEventListener("keydown", close, true);
  }, [onClose]);
  const title = segment.whole ? "Choice among whole answers" : `Piece ${index + 1} of ${answer.segments.length}`;
  return html`<section class=${`card ${segment.whole ? "whole" : ""}`} ref=${card} aria-label="Details of a piece" onMouseEnter=${onEnter} onMouseLeave=${onLeave}>
    <header>
      <h3 tabindex="-1">${title} <span class="quiet">${summary(segment, sources)}</span></h3>
      <div class="tools">
        ${!segment.whole && html`<${IconButton} icon="back" label="Previous disputed piece" onClick=${() => onStep(-1)} />
          <${IconButton} icon="next" label="Next disputed piece" onClick=${() => onStep(1)} />`}
        <${IconButton} icon="close" label="Close details" onClick=${() => onClose(true)} />
      </div>
    </header>
    ${isDisputed(segment)
      ? html`<${Table} segment=${segment} sources=${sources} />
          <p class="quiet">How much each candidate surprises each source; the lowest mean wins.</p>`
      : html`<${Undisputed} segment=${segment} sources=${sources} />`}
  </section>`;
}
