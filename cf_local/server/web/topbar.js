/** The top bar: the model that answers, and the look of the page. */

import { modeName } from "./answerview.js";
import { html, useEffect, useState } from "./html.js";
import { IconButton } from "./icons.js";
import { keep } from "./store.js";

function Group({ label, models }) {
  if (!models.length) return null;
  return html`<optgroup label=${label}>${models.map(({ id }) => html`<option key=${id} value=${id}>${id}</option>`)}</optgroup>`;
}

function Pick({ chat }) {
  const { current, models } = chat;
  const model = chat.modelOf(current);
  const modes = model?.modes ?? [];
  const pickModel = (event) => {
    const next = models.find(({ id }) => id === event.target.value);
    chat.set({ model: event.target.value, mode: next?.modes.includes(current.mode) ? current.mode : "" });
  };
  return html`<div class="pick">
    <select aria-label="Model" title=${model?.description || null} value=${current.model} onChange=${pickModel} disabled=${!models.length}>
      ${!models.length && html`<option value=${current.model}>${current.model || "no models yet"}</option>`}
      ${models.length > 0 && !model && html`<option value=${current.model}>${current.model} (not here)</option>`}
      <${Group} label="Fusions" models=${models.filter(({ kind }) => kind === "fusion")} />
      <${Group} label="One model alone" models=${models.filter(({ kind }) => kind === "source")} />
    </select>
    ${modes.length > 1 && html`<select aria-label="Mode" class="mode" value=${current.mode} onChange=${(event) => chat.set({ mode: event.target.value })}>
      <option value="">usual mode</option>
      ${modes.map((mode) => html`<option key=${mode} value=${mode}>${modeName(mode)}</option>`)}
    </select>`}
  </div>`;
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function Theme() {
  const [dark, setDark] = useState(isDark());
  useEffect(() => {
    const system = matchMedia("(prefers-color-scheme: dark)");
    const turned = () => setDark(isDark());
    system.addEventListener("change", turned);
    return () => system.removeEventListener("change", turned);
  }, []);
  const turn = () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    keep("theme", next);
    setDark(next === "dark");
  };
  return html`<${IconButton} icon=${dark ? "sun" : "moon"} label=${dark ? "Light colours" : "Dark colours"} onClick=${turn} />`;
}

export function Topbar({ chat, onMenu, onSettings, showsWinners, onWinners }) {
  return html`<header class="topbar">
    ${onMenu && html`<${IconButton} icon="menu" label="Conversations" onClick=${onMenu} />`}
    <h1><span class="sr">cf-local</span></h1>
    <${Pick} chat=${chat} />
    <div class="tools">
      <${IconButton} icon="winners" label="Show who won which words" aria-pressed=${showsWinners} onClick=${onWinners} />
      <${Theme} />
      <${IconButton} icon="settings" label="Settings of this conversation" onClick=${onSettings} />
    </div>
  </header>`;
}
