/** One answer: its text, the card of a piece, its figures and its buttons. */

import { countWords, isDisputed, sourcesOf, tally, textOf, watch } from "./answer.js";
import { AnswerText, focusPiece, neighbour } from "./answertext.js";
import { textToClipboard } from "./clipboard.js";
import { Badge, Details } from "./details.js";
import { html, useCallback, useEffect, useRef, useState } from "./html.js";
import { Icon, IconButton } from "./icons.js";
import { KeyForm } from "./keyform.js";

const HOVER_MS = 140;
const MODES = { cool: "word by word", rerank: "best whole answer", "cool+r": "word by word, or a whole answer", single: "one source alone" };

/** What a mode does, in a few words. */
export function modeName(mode) {
  return MODES[mode] ? `${mode}: ${MODES[mode]}` : mode;
}

let closeOther = () => {}; // only one card is open at a time

/** The piece that is pointed at, and whether it is pinned. */
function usePoint(answer, sources) {
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
  const keep = () => clearTimeout(timer.current);
  return { point, onPoint, close, keep, show, release: () => later(unpinned, 250) };
}

function modeOf(answer) {
  return answer.stats?.mode || answer.mode;
}

function Legend({ answer, sources }) {
  const { agreement, wins } = tally(answer);
  if (sources.length < 2 || modeOf(answer) === "single") return null;
  return html`<ul class="legend" aria-label="Who won disputed pieces">
    ${sources.map((name, index) => html`<li key=${name}><${Badge} index=${index} name=${name} /> <span class="sr">won </span>${wins[name] ?? 0}</li>`)}
    <li class="quiet">${agreement === null || modeOf(answer) === "rerank" ? "" : `${Math.round(agreement * 100)}% agreed`}</li>
  </ul>`;
}

const ENDS = {
  length: "Cut off: the most tokens were reached.",
  repetition: "Ended: it had begun to repeat itself.",
  stuck: "Ended: no source could go on.",
};

function facts(answer) {
  const seconds = answer.stats?.seconds ?? answer.seconds;
  const words = countWords(textOf(answer));
  const speed = seconds ? `${(words / seconds).toFixed(words / seconds < 10 ? 1 : 0)} words/s` : "";
  const mode = modeOf(answer);
  const alone = mode === "single" && answer.stats?.chosen !== answer.model ? answer.stats?.chosen : "";
  const who = [answer.model, alone || (mode === "single" ? "" : mode)].filter(Boolean).join(", ");
  const time = seconds ? `${seconds.toFixed(seconds < 10 ? 1 : 0)} s` : "";
  return [`${words} ${words === 1 ? "word" : "words"}`, speed, time, who].filter(Boolean);
}

function State({ answer }) {
  if (answer.state === "running") {
    const what = answer.segments.length || answer.content ? "Writing" : "Waiting for the first words";
    return html`<span class="state"><span class="pulse" aria-hidden="true"></span>${what}</span>`;
  }
  const why = answer.state === "stopped" ? "Stopped." : ENDS[answer.stats?.finish_reason ?? answer.finish];
  return why ? html`<span class="state">${why}</span>` : null;
}

function Failure({ error, chat }) {
  return html`<div class="failure" role="alert">
    <p>${error.message}</p>
    ${error.kind === "key"
      ? html`<${KeyForm} onKey=${(key) => chat.unlock(key)} />`
      : html`<button type="button" onClick=${() => chat.regenerate()}><${Icon} name="again" /> Try again</button>`}
  </div>`;
}

function Versions({ turn, chat }) {
  const count = turn.versions.length;
  if (count < 2) return null;
  return html`<span class="versions" role="group" aria-label="Versions of this answer">
    <${IconButton} icon="back" label="Version before" disabled=${turn.at === 0} onClick=${() => chat.showVersion(turn, turn.at - 1)} />
    <span><span class="sr">version </span>${turn.at + 1}/${count}</span>
    <${IconButton} icon="next" label="Next version" disabled=${turn.at === count - 1} onClick=${() => chat.showVersion(turn, turn.at + 1)} />
  </span>`;
}

function Copy({ answer, chat }) {
  const [isDone, setDone] = useState(false);
  const copy = async () => {
    await textToClipboard(answer.content);
    setDone(true);
    chat.announce("Copied");
    setTimeout(() => setDone(false), 1500);
  };
  return html`<${IconButton} icon=${isDone ? "done" : "copy"} label="Copy the answer" onClick=${copy} />`;
}

/** The answer of a turn. `isLast`: the last of the conversation, which can be regenerated. */
export function AnswerView({ turn, answer, isLast, chat }) {
  const [, redraw] = useState(0);
  useEffect(() => watch(answer, () => redraw((count) => count + 1)), [answer]);
  const sources = sourcesOf(answer);
  const { point, onPoint, close, keep, show, release } = usePoint(answer, sources);
  const root = useRef(null);
  const onClose = useCallback(close, [point]);
  useEffect(() => {
    if (!point) return undefined;
    const all = root.current.querySelectorAll(`[data-i="${point.index}"]`);
    for (const one of all) one.classList.add("on");
    return () => {
      for (const one of all) one.classList.remove("on");
    };
  }, [point]);
  const chosen = answer.segments.at(-1)?.whole ? answer.segments.length - 1 : null;
  const isRunning = answer.state === "running";
  const hasText = Boolean(answer.content || answer.segments.length);
  const onStep = (by) => {
    const next = neighbour(point.piece, by);
    if (next) show(Number(next.dataset.i), next, true);
    next?.scrollIntoView({ block: "nearest" });
  };
  return html`<article class="answer" aria-label="Answer" aria-busy=${isRunning} ref=${root}>
    ${(hasText || answer.state === "running") && html`<${AnswerText} answer=${answer} sources=${sources} onPoint=${onPoint} />`}
    ${point && html`<${Details} answer=${answer} ...${point} sources=${sources} onClose=${onClose} onStep=${onStep} onEnter=${keep} onLeave=${release} />`}
    ${answer.state === "failed" && (isLast ? html`<${Failure} error=${answer.error} chat=${chat} />` : html`<p class="failure">${answer.error.message}</p>`)}
    ${(hasText || answer.state !== "failed") && html`<footer>
      <${Legend} answer=${answer} sources=${sources} />
      <p class="facts quiet">${hasText && facts(answer).map((fact, at) => html`<span key=${at}>${fact}</span>`)}<${State} answer=${answer} /></p>
      <div class=${`actions ${isRunning ? "later" : ""}`}>
        ${answer.content && html`<${Copy} answer=${answer} chat=${chat} />`}
        ${isLast && answer.state !== "failed" && html`<${IconButton} icon="again" label="Answer again" onClick=${() => chat.regenerate()} />`}
        <${Versions} turn=${turn} chat=${chat} />
      </div>
      ${chosen !== null && html`<button type="button" class="text-button choice" onClick=${(event) => show(chosen, event.currentTarget, true)}>Choice among whole answers</button>`}
    </footer>`}
  </article>`;
}
