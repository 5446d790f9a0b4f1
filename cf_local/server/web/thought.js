/** What a model thought before it answered: folded, and readable while it comes. */

import { thoughtsOf } from "./answer.js";
import { AnswerText } from "./answertext.js";
import { html } from "./html.js";
import { usePointing } from "./pointing.js";

function secondsOf(seconds) {
  return seconds < 1 ? "under 1 s" : `${Math.round(seconds)} s`;
}

export function Thought({ answer, sources }) {
  const thoughts = thoughtsOf(answer);
  const { onPoint, card } = usePointing(thoughts, sources);
  if (!answer.reasoning) return null;
  const isThinking = thoughts.state === "running";
  const title = isThinking ? "Thinking" : `Thought${answer.thought === null ? "" : ` for ${secondsOf(answer.thought)}`}`;
  return html`<details class="thought">
      <summary>${isThinking && html`<span class="pulse" aria-hidden="true"></span>`}${title}</summary>
      <${AnswerText} answer=${thoughts} sources=${sources} onPoint=${onPoint} />
    </details>
    ${card}`;
}
