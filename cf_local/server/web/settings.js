/** Settings of the open conversation. An empty field means the server's value. */

import { html, useEffect, useRef } from "./html.js";
import { IconButton } from "./icons.js";
import { Options } from "./options.js";

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
        <span class="quiet">Given to every model before the first question.</span>
      </label>
      <${Options} settings=${chat.catalogue.settings} values=${current.options} onSet=${(options) => chat.set({ options })} />
      <div class="actions"><button type="button" class="main" onClick=${() => dialog.current.close()}>Done</button></div>
    </div>
  </dialog>`;
}
