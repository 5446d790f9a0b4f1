/** What an empty conversation shows: who will answer, and example questions. */

import { Badge } from "./details.js";
import { html } from "./html.js";

const GENERAL = [
  "Explain in two sentences why the sky is blue.",
  "There are 7 boxes with 12 pencils each. How many pencils are there?",
  "Write a polite note that cancels an appointment.",
];
const PROBLEMS = [
  "Tom has 23 apples and buys 45 more. How many apples does he have now?",
  "There are 7 boxes with 12 pencils each. How many pencils are there?",
  "Hello",
];

export function Welcome({ chat }) {
  const isWaiting = !chat.models.length && !chat.catalogue.error;
  if (isWaiting) return null; // its text depends on the models; show nothing until they arrive
  const model = chat.modelOf(chat.current);
  const isBuiltin = model?.sources.join() === "ash,birch,cedar";
  return html`<section class="welcome">
    <h2>${model?.kind === "source" ? "One model, on its own" : "Several models, one answer"}</h2>
    <p>${model?.kind === "source"
      ? "This source answers alone. Pick a fusion above to see several write together."
      : "Each model proposes the next words, all of them judge every proposal, and the one that surprises them least is taken. Colours show who won which words; tap a piece to see what the others would have said."}</p>
    ${model && model.sources.length > 1 && html`<ul class="legend" aria-label="Sources">${model.sources.map((name, index) => html`<li><${Badge} index=${index} name=${name} /></li>`)}</ul>`}
    ${isBuiltin && html`<p class="quiet">These three came with cf-local. They are a demonstration: they solve short school problems, and little else.</p>`}
    <ul class="examples" aria-label="Questions to begin with">
      ${(isBuiltin ? PROBLEMS : GENERAL).map((text) => html`<li><button type="button" onClick=${() => chat.send(text)}>${text}</button></li>`)}
    </ul>
  </section>`;
}
