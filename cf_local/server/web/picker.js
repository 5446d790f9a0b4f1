/** Picks the model that answers: a list that shows what each model and fusion is. */

import { Badge } from "./details.js";
import { modeName } from "./figures.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { Icon, IconButton } from "./icons.js";

function Group({ label, models }) {
  if (!models.length) return null;
  return html`<optgroup label=${label}>${models.map(({ id }) => html`<option key=${id} value=${id}>${id}</option>`)}</optgroup>`;
}

/** The models as a plain list. */
export function ModelSelect({ chat, model, onPick }) {
  return html`<select value=${model} onChange=${(event) => onPick(event.target.value)}>
    <${Group} label="Fusions" models=${chat.models.filter(({ kind }) => kind === "fusion")} />
    <${Group} label="One model alone" models=${chat.models.filter(({ kind }) => kind === "source")} />
  </select>`;
}

/** The modes of a model. */
export function ModeSelect({ chat, model, mode, onPick, ...rest }) {
  const modes = chat.models.find(({ id }) => id === model)?.modes ?? [];
  return html`<select value=${mode} onChange=${(event) => onPick(event.target.value)} disabled=${modes.length < 2} ...${rest}>
    <option value="">usual mode</option>
    ${modes.map((one) => html`<option key=${one} value=${one}>${modeName(one)}</option>`)}
  </select>`;
}

function Card({ model, isPicked, onPick }) {
  const { id, kind, description, sources, modes, isLoaded, isDefault } = model;
  const state = [isLoaded ? "loaded" : "not loaded yet", isDefault && "the default"].filter(Boolean).join(", ");
  return html`<li><button type="button" class="model" aria-pressed=${isPicked} onClick=${() => onPick(model)}>
    <span class="name">${id}</span> <span class=${`quiet state ${isLoaded ? "loaded" : ""}`}>${state}</span>
    ${description && html`<span class="about">${description}</span>`}
    ${kind === "fusion" && html`<span class="legend">${sources.map((name, at) => html`<${Badge} key=${name} index=${at} name=${name} />`)}</span>
      <span class="quiet">modes: ${modes.join(", ")}</span>`}
  </button></li>`;
}

function List({ chat, onClose }) {
  const dialog = useRef(null);
  const { current, models } = chat;
  useEffect(() => {
    dialog.current.showModal();
    chat.refresh(); // what is loaded may have changed
    dialog.current.querySelector("[aria-pressed=true]")?.focus();
  }, []);
  const pick = (model) => {
    chat.set({ model: model.id, mode: model.modes.includes(current.mode) ? current.mode : "" });
    dialog.current.close();
  };
  const outside = (event) => {
    if (event.target === dialog.current) dialog.current.close();
  };
  const group = (title, kind) => {
    const some = models.filter((model) => model.kind === kind);
    return some.length > 0 && html`<h3>${title}</h3><ul>${some.map((model) => html`<${Card} key=${model.id} model=${model} isPicked=${model.id === current.model} onPick=${pick} />`)}</ul>`;
  };
  return html`<dialog class="settings models" ref=${dialog} aria-labelledby="models-title" onClose=${onClose} onClick=${outside}>
    <div class="inside">
      <div class="head"><h2 id="models-title">Who answers</h2><${IconButton} icon="close" label="Close the list of models" onClick=${() => dialog.current.close()} /></div>
      ${group("Fusions: several models, one answer", "fusion")}
      ${group("One model alone", "source")}
    </div>
  </dialog>`;
}

export function Picker({ chat }) {
  const [isOpen, setOpen] = useState(false);
  const { current, models } = chat;
  const model = chat.modelOf(current);
  const name = current.model || "no models yet";
  return html`<div class="pick">
    <button type="button" class="picker" aria-haspopup="dialog" aria-label=${`Model: ${name}`} title=${model?.description || null} disabled=${!models.length} onClick=${() => setOpen(true)}>
      <span class="name">${name}${models.length > 0 && !model ? " (not here)" : ""}</span>${models.length > 0 && html`<${Icon} name="down" />`}
    </button>
    ${(model?.modes.length ?? 0) > 1 && html`<${ModeSelect} chat=${chat} model=${current.model} mode=${current.mode} onPick=${(mode) => chat.set({ mode })} class="mode" aria-label="Mode" />`}
    ${isOpen && html`<${List} chat=${chat} onClose=${() => setOpen(false)} />`}
  </div>`;
}
