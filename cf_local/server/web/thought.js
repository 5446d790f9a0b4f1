/** What a model thought before it answered: folded, and readable while it comes. */

import { Growing } from "./growing.js";
import { Nodes } from "./blocks.js";
import { html, useRef } from "./html.js";

const PLAIN = { segments: [], sources: [] };

function secondsOf(seconds) {
  return seconds < 1 ? "under 1 s" : `${Math.round(seconds)} s`;
}

export function Thought({ answer }) {
  const known = useRef({ growing: new Growing(), fed: 0 });
  if (!answer.reasoning) return null;
  const { growing } = known.current;
  if (answer.reasoning.length > known.current.fed) growing.push(answer.reasoning.slice(known.current.fed), -1);
  known.current.fed = answer.reasoning.length;
  const isThinking = answer.state === "running" && !answer.content;
  if (!isThinking) growing.finish();
  const title = isThinking ? "Thinking" : `Thought${answer.thought === null ? "" : ` for ${secondsOf(answer.thought)}`}`;
  return html`<details class="thought">
    <summary>${isThinking && html`<span class="pulse" aria-hidden="true"></span>`}${title}</summary>
    <div class="text"><${Nodes} nodes=${growing.blocks} context=${PLAIN} /></div>
  </details>`;
}
