/** The list of conversations, and actions on the open one. */

import { exported } from "./conversation.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { Icon, IconButton } from "./icons.js";

/** Download a file. */
function download(name, data) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(data, null, 2)], { type: "application/json" }));
  link.download = `${name.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 50) || "conversation"}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function Renaming({ title, onDone }) {
  const [text, setText] = useState(title);
  const input = useRef(null);
  useEffect(() => input.current.select(), []);
  const keys = (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault(); // not the drawer, too
    event.stopPropagation();
    onDone(null);
  };
  const submit = (event) => {
    event.preventDefault();
    onDone(text);
  };
  return html`<form class="renaming" onSubmit=${submit}>
    <input aria-label="Name of the conversation" maxlength="60" ref=${input} value=${text} onInput=${(event) => setText(event.target.value)} onKeyDown=${keys} />
    <${IconButton} icon="done" label="Keep the name" type="submit" />
  </form>`;
}

/** Asks before a conversation is deleted. */
function Confirm({ title, onDone }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  return html`<dialog class="confirm" ref=${dialog} aria-labelledby="confirm-title" onClose=${() => onDone(false)}>
    <h2 id="confirm-title">Delete this conversation?</h2>
    <p>“${title}” will be gone from this browser. It is kept nowhere else.</p>
    <div class="actions">
      <button type="button" onClick=${() => dialog.current.close()}>Cancel</button>
      <button type="button" class="danger" onClick=${() => onDone(true)}>Delete</button>
    </div>
  </dialog>`;
}

function Current({ heading, chat }) {
  const [doing, setDoing] = useState("");
  const removed = (isSure) => {
    setDoing("");
    if (isSure) chat.remove(heading.id);
  };
  const renamed = (title) => {
    setDoing("");
    if (title) chat.rename(title);
  };
  if (doing === "rename") return html`<${Renaming} title=${heading.title} onDone=${renamed} />`;
  return html`<div class="tools">
    <${IconButton} icon="edit" label="Rename" onClick=${() => setDoing("rename")} />
    <${IconButton} icon="save" label="Export as a file" onClick=${() => download(heading.title, exported(chat.current))} />
    <${IconButton} icon="trash" label="Delete" onClick=${() => setDoing("delete")} />
    ${doing === "delete" && html`<${Confirm} title=${heading.title} onDone=${removed} />`}
  </div>`;
}

function Files({ chat }) {
  const input = useRef(null);
  const taken = (event) => {
    const [file] = event.target.files;
    if (file) chat.takeIn(file);
    event.target.value = "";
  };
  const all = async () => {
    const found = await Promise.all(chat.listing.headings.map(({ id }) => chat.load(id)));
    download("cf-local conversations", found.filter(Boolean).map(exported));
  };
  return html`<div class="files">
    <input type="file" accept=".json,application/json" hidden ref=${input} onChange=${taken} />
    <button type="button" class="text-button" onClick=${() => input.current.click()}><${Icon} name="load" /> Import</button>
    <button type="button" class="text-button" disabled=${!chat.listing.headings.length} onClick=${all}><${Icon} name="save" /> Export all</button>
  </div>`;
}

/** What the search finds, by id; null without a search. */
function useSearch(chat, text) {
  const [found, setFound] = useState(null);
  useEffect(() => {
    if (!text.trim()) {
      setFound(null);
      return undefined;
    }
    const timer = setTimeout(async () => setFound(new Map((await chat.listing.search(text)).map((one) => [one.id, one]))), 150);
    return () => clearTimeout(timer);
  }, [text]);
  return found;
}

/** Calls `onPick` when a conversation is chosen, which closes a phone's drawer. */
export function Sidebar({ chat, onPick }) {
  const pick = (action) => () => {
    action();
    onPick?.();
  };
  const { current, listing: { headings } } = chat;
  const [text, setText] = useState("");
  const found = useSearch(chat, text);
  return html`<nav class="sidebar" aria-label="Conversations">
    <button type="button" class="new" onClick=${pick(() => chat.startNew())}><${Icon} name="plus" /> New chat</button>
    ${headings.length > 0 && html`<label class="search"><span class="sr">Search conversations</span><${Icon} name="search" />
      <input type="search" placeholder="Search" value=${text} onInput=${(event) => setText(event.target.value)} /></label>`}
    <ul>
      ${headings.filter(({ id }) => !found || found.has(id)).map((heading) => {
        const isOpen = heading.id === current.id;
        return html`<li key=${heading.id} class=${isOpen ? "open" : ""}>
          <button type="button" class="title" aria-current=${isOpen ? "page" : null} onClick=${pick(() => chat.open(heading.id))}>
            <span class="name" dir="auto">${heading.title}</span>${chat.isRunning(heading.id) && html`<span class="pulse"><span class="sr">, answering</span></span>`}
          </button>
          ${found && html`<p class="quiet match" dir="auto">${found.get(heading.id).before}<mark>${found.get(heading.id).match}</mark>${found.get(heading.id).after}</p>`}
          ${isOpen && html`<${Current} heading=${heading} chat=${chat} />`}
        </li>`;
      })}
    </ul>
    <p class="sr" role="status">${found && `${found.size} found`}</p>
    ${found?.size === 0 && html`<p class="quiet none">Nothing found.</p>`}
    ${!headings.length && html`<p class="quiet">Conversations are kept in this browser and appear here.</p>`}
    <${Files} chat=${chat} />
  </nav>`;
}
