/** One answer: its thoughts, its text, its figures and its buttons. */

import { canResume, sourcesOf, watch } from "./answer.js";
import { AnswerText } from "./answertext.js";
import { textToClipboard } from "./clipboard.js";
import { facts, hasLegend, Legend } from "./figures.js";
import { html, useEffect, useState } from "./html.js";
import { Icon, IconButton } from "./icons.js";
import { KeyForm } from "./keyform.js";
import { Menu, Versions } from "./menu.js";
import { usePointing } from "./pointing.js";
import { Editing } from "./question.js";
import { Thought } from "./thought.js";

const ENDS = {
  length: "Cut off: the token limit was reached.",
  repetition: "Ended: it had begun to repeat itself.",
  stuck: "Ended: no source could go on.",
};

function State({ answer }) {
  if (answer.state === "running") {
    const isLoading = typeof answer.loading === "number"; // and then the question is read
    if (isLoading && answer.loading < 1) return html`<span class="state"><progress value=${answer.loading} aria-label="Loading the model"></progress> Loading ${Math.round(answer.loading * 100)}%</span>`;
    const what = answer.segments.length || answer.content ? "Writing" : "Waiting for the first words";
    return html`<span class="state"><span class="pulse" aria-hidden="true"></span>${what}</span>`;
  }
  const why = answer.state === "stopped" ? "Stopped." : ENDS[answer.stats?.finish_reason ?? answer.finish];
  return why ? html`<span class="state">${why}</span>` : null;
}

function Failure({ error, chat, index }) {
  return html`<div class="failure" role="alert">
    <p>${error.message}</p>
    ${error.kind === "key"
      ? html`<${KeyForm} onKey=${(key) => chat.unlock(key)} />`
      : html`<button type="button" onClick=${() => chat.regenerate(index)}><${Icon} name="again" /> Try again</button>`}
  </div>`;
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

/** The buttons of an answer. `onEdit` and `onAgain` open what is needed for that. */
function Actions({ turn, answer, index, isLast, chat, onEdit, onAgain }) {
  const isRunning = answer.state === "running";
  const more = [
    { label: "Answer again with …", icon: "settings", run: onAgain },
    { label: "Edit the answer", icon: "edit", run: onEdit },
    { label: turn.versions.length > 1 ? "Delete this version" : "Delete the answer", icon: "trash", run: () => chat.removeTurn(index) },
  ];
  return html`<div class=${`actions ${isRunning ? "later" : ""}`}>
    ${isLast && canResume(answer) && html`<button type="button" class="text-button" onClick=${() => chat.resume()}><${Icon} name="next" /> Continue</button>`}
    ${answer.content && html`<${Copy} answer=${answer} chat=${chat} />`}
    ${!chat.isBusy && html`${answer.state !== "failed" && html`<${IconButton} icon="again" label="Answer again" onClick=${() => chat.regenerate(index)} />`}
      <${Menu} label="More about this answer" items=${more} />`}
    <${Versions} turn=${turn} what="answer" onShow=${(to) => chat.showVersion(index, to)} />
  </div>`;
}

/** An answer. `turn` is null for one that a source gave alone, next to the fusion's. */
export function AnswerView({ turn, answer, index, isLast, chat, onAgain, title }) {
  const [, redraw] = useState(0);
  const [isEditing, setEditing] = useState(false);
  useEffect(() => watch(answer, () => redraw((count) => count + 1)), [answer]);
  const sources = sourcesOf(answer);
  const { onPoint, show, card } = usePointing(answer, sources);
  const chosen = answer.segments.at(-1)?.whole ? answer.segments.length - 1 : null;
  const isRunning = answer.state === "running";
  const legend = hasLegend(answer, sources) && html`<${Legend} answer=${answer} sources=${sources} />`;
  const hasText = Boolean(answer.content || answer.segments.length);
  const onEdited = (text) => {
    setEditing(false);
    if (text !== null && text !== answer.content) chat.editAnswer(index, text);
  };
  return html`<article class="answer" aria-label=${title ?? "Answer"} aria-busy=${isRunning}>
    ${title && html`<h3 class="who">${title}</h3>`}
    <${Thought} answer=${answer} sources=${sources} />
    ${isEditing
      ? html`<${Editing} text=${answer.content} label="The answer" action="Keep" onDone=${onEdited} />`
      : (answer.content || (hasText && !answer.reasoning) || (isRunning && !answer.reasoning)) && html`<${AnswerText} answer=${answer} sources=${sources} onPoint=${onPoint} />`}
    ${card}
    ${answer.state === "failed" && (turn && !chat.isBusy ? html`<${Failure} error=${answer.error} chat=${chat} index=${index} />` : html`<p class="failure">${answer.error.message}</p>`)}
    <footer class=${legend ? null : "plain"}>
      ${legend}
      <p class="facts quiet">${hasText && facts(answer).map((fact, at) => html`<span key=${at}>${fact}</span>`)}<${State} answer=${answer} /></p>
      ${turn && html`<${Actions} turn=${turn} answer=${answer} index=${index} isLast=${isLast} chat=${chat} onEdit=${() => setEditing(true)} onAgain=${onAgain} />`}
      ${chosen !== null && html`<button type="button" class="text-button choice" onClick=${(event) => show(chosen, event.currentTarget, true)}>Choice among whole answers</button>`}
    </footer>
  </article>`;
}
