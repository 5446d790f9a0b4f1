/** The input for questions. Unsent text is stored and survives a reload. */

import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { Icon } from "./icons.js";
import { keep, recall } from "./store.js";

/** The storage key of the unsent text of a conversation. */
function draftOf(conversation) {
  return `draft.${conversation.turns.length ? conversation.id : "new"}`;
}

export function Composer({ chat }) {
  const name = draftOf(chat.current);
  const [text, setText] = useState(recall(name) ?? "");
  const area = useRef(null);
  useEffect(() => {
    setText(recall(name) ?? "");
    if (matchMedia("(hover: hover)").matches && !document.querySelector("dialog[open]")) area.current.focus();
  }, [chat.current.id]);
  useLayoutEffect(() => {
    area.current.style.height = "auto";
    area.current.style.height = `${area.current.scrollHeight + 2}px`;
  }, [text]);
  const change = (value) => {
    setText(value);
    keep(name, value);
  };
  const submit = (event) => {
    event.preventDefault();
    if (chat.isBusy || !text.trim()) return;
    chat.send(text);
    change("");
  };
  const keys = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  const stop = () => {
    chat.stop();
    area.current.focus();
  };
  return html`<form class="composer" onSubmit=${submit} aria-label="Ask">
    <label class="sr" for="question">Your question</label>
    <textarea id="question" ref=${area} rows="1" dir="auto" placeholder="Ask something" enterkeyhint="send" value=${text}
      aria-describedby="keys" onInput=${(event) => change(event.target.value)} onKeyDown=${keys}></textarea>
    ${chat.isBusy
      ? html`<button type="button" class="round stop" key="stop" title="Stop (Escape)" aria-label="Stop" onClick=${stop}><${Icon} name="stop" /></button>`
      : html`<button type="submit" class="round" key="send" title="Send (Enter)" aria-label="Send" disabled=${!text.trim()}><${Icon} name="send" /></button>`}
    <span class="sr" id="keys">Enter sends, Shift and Enter begin a new line, Escape stops the answer.</span>
  </form>`;
}
