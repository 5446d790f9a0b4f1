/** A question of the user, with its files, versions and actions; and a form to edit a text. */

import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { Icon, IconButton } from "./icons.js";
import { Menu, Versions } from "./menu.js";

/** Edits a text in its place; `onDone(null)` leaves it as it was. */
export function Editing({ text, label, action, onDone }) {
  const [value, setValue] = useState(text);
  const area = useRef(null);
  useEffect(() => {
    area.current.focus();
    area.current.style.height = `${Math.min(area.current.scrollHeight + 2, innerHeight / 2)}px`;
  }, []);
  const submit = (event) => {
    event.preventDefault();
    onDone(value);
  };
  const keys = (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      onDone(null);
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  return html`<form class="editing" onSubmit=${submit}>
    <label class="sr" for="edited">${label}</label>
    <textarea id="edited" ref=${area} rows="3" dir="auto" value=${value} onInput=${(event) => setValue(event.target.value)} onKeyDown=${keys}></textarea>
    <div class="actions"><button type="submit" class="main">${action}</button><button type="button" onClick=${() => onDone(null)}>Cancel</button></div>
  </form>`;
}

/** Files as the reader sees them; `onRemove(index)` if they can still be taken away. */
export function Files({ files, onRemove }) {
  if (!files?.length) return null;
  return html`<ul class="attached" aria-label="Attached files">${files.map(({ name, text }, at) => html`<li key=${at}>
    <details><summary><${Icon} name="file" /> <span class="name" dir="auto">${name}</span> <span class="quiet">${sizeOf(text)}</span></summary><pre tabindex="0" aria-label=${name}>${text}</pre></details>
    ${onRemove && html`<${IconButton} icon="close" label=${`Remove ${name}`} onClick=${() => onRemove(at)} />`}
  </li>`)}</ul>`;
}

function sizeOf(text) {
  return text.length < 1000 ? `${text.length} characters` : `${Math.round(text.length / 1000)}k characters`;
}

/** What was asked; a long text scrolls, with the keyboard, too. */
function Bubble({ turn }) {
  const bubble = useRef(null);
  useLayoutEffect(() => {
    const { scrollHeight, clientHeight } = bubble.current;
    if (scrollHeight > clientHeight) bubble.current.tabIndex = 0;
    else bubble.current.removeAttribute("tabindex");
  }, [turn.content]);
  return html`<div class="bubble" dir="auto" ref=${bubble}><span class="sr">You: </span><${Files} files=${turn.files} />${turn.content}</div>`;
}

export function Question({ turn, index, chat }) {
  const [isEditing, setEditing] = useState(false);
  const done = (text) => {
    setEditing(false);
    if (text !== null && text.trim()) chat.edit(index, text);
  };
  if (isEditing) {
    return html`<div class="question wide"><${Files} files=${turn.files} /><${Editing} text=${turn.content} label="Your question" action="Ask again" onDone=${done} /></div>`;
  }
  return html`<div class="question">
    <${Bubble} turn=${turn} />
    <div class="actions">
      <${Versions} turn=${turn} what="question" onShow=${(to) => chat.showVersion(index, to)} />
      ${!chat.isBusy && html`<${IconButton} icon="edit" label="Edit the question" onClick=${() => setEditing(true)} />
        <${Menu} label="More about this question" items=${[{ label: "Delete question and answer", icon: "trash", run: () => chat.removeTurn(index) }]} />`}
    </div>
  </div>`;
}
