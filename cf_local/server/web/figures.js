/** The figures below an answer: who won how often, how much was written, how fast, by whom. */

import { countWords, tally, textOf } from "./answer.js";
import { Badge } from "./details.js";
import { html } from "./html.js";

const MODES = { cool: "word by word", rerank: "best whole answer", "cool+r": "word by word, or a whole answer", single: "one source alone" };
const SHORTEST_S = 0.05; // less says nothing about speed
const NOTABLE_S = 1; // a longer wait for the first words is reported

/** What a mode does, in a few words. */
export function modeName(mode) {
  return MODES[mode] ? `${mode}: ${MODES[mode]}` : mode;
}

/** The mode in which an answer was written. */
export function modeOf(answer) {
  return answer.stats?.mode || answer.mode;
}

/** Whether several sources took part. */
export function hasLegend(answer, sources) {
  return sources.length > 1 && modeOf(answer) !== "single";
}

export function Legend({ answer, sources }) {
  const { agreement, wins } = tally(answer);
  return html`<ul class="legend" aria-label="Who won disputed pieces">
    ${sources.map((name, index) => html`<li key=${name}><${Badge} index=${index} name=${name} /> <span class="sr">won </span>${wins[name] ?? 0}</li>`)}
    <li class="quiet">${agreement === null || modeOf(answer) === "rerank" ? "" : `${Math.round(agreement * 100)}% undisputed`}</li>
  </ul>`;
}

function rate(count, seconds, what) {
  return seconds >= SHORTEST_S ? `${(count / seconds).toFixed(count / seconds < 10 ? 1 : 0)} ${what}/s` : "";
}

function duration(seconds) {
  return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
}

/** Who answered, and with which settings of its own. */
function author(answer) {
  const mode = modeOf(answer);
  const alone = mode === "single" && answer.stats?.chosen !== answer.model ? answer.stats?.chosen : "";
  const options = Object.entries(answer.options ?? {}).map(([name, value]) => `${name.replace(/^cf_local\./, "")} ${value}`);
  return [answer.model, alone || (mode === "single" ? "" : mode), ...options].filter(Boolean).join(", ");
}

/** Seconds are those of writing: loading and reading the question do not count. */
export function facts(answer) {
  if (answer.isEdited) return ["edited by you"];
  const { seconds, tokens, waited } = answer;
  const words = countWords(textOf(answer));
  return [
    `${words} ${words === 1 ? "word" : "words"}`,
    rate(words, seconds, "words"),
    tokens ? rate(tokens, seconds, "tokens") : "",
    seconds >= SHORTEST_S ? duration(seconds) : "",
    waited >= NOTABLE_S ? `first words after ${duration(waited)}` : "",
    author(answer),
  ].filter(Boolean);
}
