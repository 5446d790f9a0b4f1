/** Asks for the API key of the server, which is stored until the tab is closed. */

import { html, useState } from "./html.js";

export function KeyForm({ onKey }) {
  const [key, setKey] = useState("");
  const submit = (event) => {
    event.preventDefault();
    if (key.trim()) onKey(key.trim());
  };
  return html`<form class="key" onSubmit=${submit}>
    <label>API key <input type="password" autocomplete="off" value=${key} onInput=${(event) => setKey(event.target.value)} /></label>
    <button type="submit">Use it</button>
    <p class="quiet">Kept in this tab until you close it.</p>
  </form>`;
}
