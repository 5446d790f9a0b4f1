/** The top bar: the model that answers, and the look of the page. */

import { html, useEffect, useState } from "./html.js";
import { IconButton } from "./icons.js";
import { Picker } from "./picker.js";
import { keep } from "./store.js";

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
    <${Picker} chat=${chat} />
    <div class="tools">
      <${IconButton} icon="compare" label="Compare: each source answers alone, too" aria-pressed=${chat.compares} onClick=${() => chat.compare(!chat.compares)} />
      <${IconButton} icon="winners" label="Show who won which words" aria-pressed=${showsWinners} onClick=${onWinners} />
      <${Theme} />
      <${IconButton} icon="settings" label="Settings of this conversation" onClick=${onSettings} />
    </div>
  </header>`;
}
