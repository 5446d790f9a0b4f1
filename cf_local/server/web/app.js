/** The page: puts the parts together and shows them. */

import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { html, render, useEffect, useRef, useState } from "./html.js";
import { IconButton } from "./icons.js";
import { KeyForm } from "./keyform.js";
import { Leaving } from "./links.js";
import { Settings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { keep, recall } from "./store.js";
import { Thread } from "./thread.js";
import { Topbar } from "./topbar.js";

const WIDE = matchMedia("(min-width: 56rem)");

/** The list of conversations on a narrow screen. */
function Drawer({ chat, onClose }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  const outside = (event) => {
    if (event.target === dialog.current) dialog.current.close();
  };
  return html`<dialog class="drawer" ref=${dialog} aria-label="Conversations" onClose=${onClose} onClick=${outside}>
    <div class="inside">
      <div class="close"><${IconButton} icon="close" label="Close the list" onClick=${() => dialog.current.close()} /></div>
      <${Sidebar} chat=${chat} onPick=${() => dialog.current.close()} />
    </div>
  </dialog>`;
}

function Problem({ chat }) {
  const { undo, catalogue: { error: modelsError } } = chat;
  const notice = chat.notice || chat.listing.problem;
  if (modelsError) {
    return html`<div class="banner" role="alert"><p>${modelsError.message}</p>
      ${modelsError.kind === "key"
        ? html`<${KeyForm} onKey=${(key) => chat.unlock(key)} />`
        : html`<button type="button" onClick=${() => chat.refresh()}>Try again</button>`}
    </div>`;
  }
  if (undo) {
    return html`<div class="banner" role="status"><p>Deleted.</p><button type="button" onClick=${undo}>Undo</button>
      <${IconButton} icon="close" label="Close this message" onClick=${() => chat.keepDeleted()} /></div>`;
  }
  const told = notice || (chat.listing.isForgetful ? "This browser keeps nothing for this page: conversations last until you close it." : "");
  if (!told) return null;
  const close = () => {
    chat.listing.isForgetful = false;
    chat.say("");
  };
  return html`<div class="banner" role="status"><p>${told}</p><${IconButton} icon="close" label="Close this message" onClick=${close} /></div>`;
}

function App({ chat }) {
  const [, redraw] = useState(0);
  const [isWide, setWide] = useState(WIDE.matches);
  const [isListOpen, setListOpen] = useState(false);
  const [isSetting, setSetting] = useState(false);
  const [showsWinners, setWinners] = useState(recall("winners") !== "no");
  useEffect(() => chat.subscribe(() => redraw((count) => count + 1)), []);
  useEffect(() => {
    const turned = () => setWide(WIDE.matches);
    const keys = (event) => {
      if (event.key === "Escape" && !document.querySelector("dialog[open]")) chat.stop();
    };
    WIDE.addEventListener("change", turned);
    document.addEventListener("keydown", keys);
    chat.start();
    return () => {
      WIDE.removeEventListener("change", turned);
      document.removeEventListener("keydown", keys);
    };
  }, []);
  useEffect(() => {
    document.title = chat.current.turns.length ? `${chat.current.title} – cf-local` : "cf-local";
  });
  const onWinners = () => {
    keep("winners", showsWinners ? "no" : null);
    setWinners(!showsWinners);
  };
  return html`<div class=${`page ${showsWinners ? "winners" : ""}`}>
    <a class="skip" href="#question" onClick=${(event) => {
      event.preventDefault();
      document.getElementById("question").focus();
    }}>Skip to the question</a>
    ${isWide && html`<${Sidebar} chat=${chat} />`}
    <div class="middle">
      <${Topbar} chat=${chat} onMenu=${isWide ? null : () => setListOpen(true)} onSettings=${() => setSetting(true)}
        showsWinners=${showsWinners} onWinners=${onWinners} />
      <${Problem} chat=${chat} />
      <${Thread} chat=${chat} />
      <${Composer} chat=${chat} />
    </div>
    ${!isWide && isListOpen && html`<${Drawer} chat=${chat} onClose=${() => setListOpen(false)} />`}
    ${isSetting && html`<${Settings} chat=${chat} onClose=${() => setSetting(false)} />`}
    <${Leaving} />
    <div class="sr" role="status" aria-live="polite">${chat.announcement}</div>
  </div>`;
}

render(html`<${App} chat=${new Chat()} />`, document.getElementById("app"));
navigator.serviceWorker?.register("sw.js").catch(() => {}); // without one, the page needs the server
