/** Fields for what a request can set: OpenAI's settings, and the server's own as it describes them. */

import { html } from "./html.js";

const USUAL = [
  { name: "temperature", label: "Temperature", about: "0 to 2. At 0 the same question gets the same answer.", kind: "number", low: 0, high: 2 },
  { name: "max_tokens", label: "Token limit", about: "Where an answer is cut off.", kind: "whole", low: 1, high: 1_000_000 },
];
const MORE = [
  { name: "top_p", about: "Sample from the most likely tokens that have this share of all probability.", kind: "number", low: 0, high: 1 },
  { name: "seed", about: "The same seed gives the same answer, also at a temperature above 0.", kind: "whole", low: null, high: null },
  { name: "stop", about: "The answer ends before this text.", kind: "text" },
];
const ELSEWHERE = new Set(["trace", "mode", "only"]); // the page has its own ways to set them
const SAMPLING = /(?:top_|min_p|penalty|dry|repeat|typical|xtc|mirostat)/;

function labelOf({ label, name }) {
  const words = name.replace(/^cf_local\./, "").replaceAll("_", " ");
  return label ?? words[0].toUpperCase() + words.slice(1);
}

/** The value of a field; null for the default, undefined if invalid. */
function valueIn(input, kind) {
  if (!input.validity.valid) return undefined;
  if (input.value === "") return null;
  if (kind === "switch") return input.value === "true";
  return kind === "number" || kind === "whole" ? input.valueAsNumber : input.value;
}

function Field({ setting, value, onSet }) {
  const { name, about, kind, choices, low, high } = setting;
  const change = (event) => {
    const found = valueIn(event.target, kind);
    if (found === undefined) event.target.reportValidity();
    else onSet(name, found);
  };
  const chosen = kind === "switch" ? [["true", "on"], ["false", "off"]] : (choices ?? []).map((one) => [one, one]);
  return html`<label class="field"><span>${labelOf(setting)}</span>
    ${chosen.length
      ? html`<select name=${name} value=${String(value ?? "")} onChange=${change}><option value="">default</option>${chosen.map(([one, text]) => html`<option key=${one} value=${one}>${text}</option>`)}</select>`
      : html`<input name=${name} type=${kind === "text" ? "text" : "number"} inputmode=${kind === "text" ? null : "decimal"} placeholder="default" value=${value ?? ""}
          min=${low} max=${high} step=${kind === "number" ? "any" : null} onChange=${change} />`}
    <span class="quiet">${about}</span>
  </label>`;
}

/** All fields. `values` by name; a name that is missing has the default. */
export function Options({ settings, values, onSet }) {
  const set = (name, value) => {
    const { [name]: _, ...rest } = values;
    onSet(value === null ? rest : { ...rest, [name]: value });
  };
  const fields = (some) => html`<div class="pair">${some.map((setting) => html`<${Field} key=${setting.name} setting=${setting} value=${values[setting.name]} onSet=${set} />`)}</div>`;
  const own = settings.filter(({ name }) => !ELSEWHERE.has(name.slice("cf_local.".length)));
  const isSampling = ({ name }) => SAMPLING.test(name);
  const folded = (title, some) => {
    const nSet = some.filter(({ name }) => name in values).length;
    return some.length > 0 && html`<details><summary>${title}${nSet > 0 && html` <span class="quiet">${nSet} set</span>`}</summary>${fields(some)}</details>`;
  };
  return html`${fields(USUAL)}
    ${folded("More about sampling", [...MORE, ...own.filter(isSampling)])}
    ${folded("How the models are fused", own.filter((one) => !isSampling(one)))}`;
}
