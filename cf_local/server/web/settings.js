/** Settings of the open conversation. An empty field means the server's value. */

import { html, useEffect, useRef } from "./html.js";
import { IconButton } from "./icons.js";

/** The value of a field: a number, null if empty, undefined if invalid. */
function numberIn(input) {
  if (!input.validity.valid) return undefined;
  return input.value.trim() === "" ? null : input.valueAsNumber;
}

function NumberField({ label, help, value, onSet, ...rest }) {
  const change = (event) => {
    const number = numberIn(event.target);
    if (number === undefined) event.target.reportValidity();
    else onSet(number);
  };
  return html`<label class="field"><span>${label}</span>
    <input type="number" inputmode="decimal" placeholder="default" value=${value ?? ""} onChange=${change} ...${rest} />
    <span class="quiet">${help}</span>
  </label>`;
}

export function Settings({ chat, onClose }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  const { current } = chat;
  const outside = (event) => {
    if (event.target === dialog.current) dialog.current.close();
  };
  return html`<dialog class="settings" ref=${dialog} aria-labelledby="settings-title" onClose=${onClose} onClick=${outside}>
    <div class="inside">
      <header><h2 id="settings-title">This conversation</h2><${IconButton} icon="close" label="Close settings" onClick=${() => dialog.current.close()} /></header>
      <label class="field"><span>System prompt</span>
        <textarea rows="4" dir="auto" placeholder="None" value=${current.system} onChange=${(event) => chat.set({ system: event.target.value })}></textarea>
        <span class="quiet">Told to every model before the first question.</span>
      </label>
      <div class="pair">
        <${NumberField} label="Temperature" help="0 to 2. At 0 the same question gets the same answer." value=${current.temperature}
          min="0" max="2" step="any" onSet=${(temperature) => chat.set({ temperature })} />
        <${NumberField} label="Most tokens" help="Where an answer is cut off." value=${current.maxTokens}
          min="1" max="1000000" step="1" onSet=${(maxTokens) => chat.set({ maxTokens })} />
      </div>
      <div class="actions"><button type="button" class="main" onClick=${() => dialog.current.close()}>Done</button></div>
    </div>
  </dialog>`;
}
