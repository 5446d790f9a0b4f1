/** The input for questions. Unsent text is stored and survives a reload. */

import { keepFiles, recallFiles, textOf } from "./files.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { Icon, IconButton } from "./icons.js";
import { Files } from "./question.js";
import { keep, recall } from "./store.js";

/** The storage key of the unsent text of a conversation. */
function draftOf(conversation) {
  return `draft.${conversation.turns.length ? conversation.id : "new"}`;
}

export function Composer({ chat }) {
  const name = draftOf(chat.current);
  const [text, setText] = useState(recall(name) ?? "");
  const [files, setFiles] = useState(recallFiles(name));
  const area = useRef(null);
  const input = useRef(null);
  useEffect(() => {
    setText(recall(name) ?? "");
    setFiles(recallFiles(name));
    if (matchMedia("(hover: hover)").matches && !document.querySelector("dialog[open]")) area.current.focus();
  }, [chat.current.id]);
  useLayoutEffect(() => {
    area.current.style.height = "auto";
    area.current.style.height = `${area.current.scrollHeight + 2}px`;
  }, [text]);
  const canSend = Boolean(text.trim() || files.length);
  const change = (value) => {
    setText(value);
    keep(name, value);
  };
  const changeFiles = (list) => {
    setFiles(list);
    keepFiles(name, list);
  };
  const submit = (event) => {
    event.preventDefault();
    if (chat.isBusy || !canSend) return;
    chat.send(text, files);
    changeFiles([]);
    change("");
  };
  const attach = async (list) => {
    const { found, problems } = await textOf([...list], files);
    changeFiles([...files, ...found]);
    if (problems.length) chat.say(problems.join(" "));
  };
  const picked = (event) => {
    attach([...event.target.files]);
    event.target.value = "";
    area.current.focus();
  };
  const dropped = (event) => {
    const list = event.dataTransfer ?? event.clipboardData;
    if (!list.files.length) return;
    event.preventDefault();
    attach(list.files);
  };
  const keys = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  const stop = () => {
    chat.stop();
    area.current.focus();
  };
  return html`<form class="composer" onSubmit=${submit} aria-label="Ask" onDragOver=${(event) => event.preventDefault()} onDrop=${dropped}>
    <${Files} files=${files} onRemove=${(at) => changeFiles(files.toSpliced(at, 1))} />
    <div class="box">
    <label class="sr" for="question">Your question</label>
    <textarea id="question" ref=${area} rows="1" dir="auto" placeholder="Ask something" enterkeyhint="send" value=${text}
      aria-describedby="keys" onInput=${(event) => change(event.target.value)} onKeyDown=${keys} onPaste=${dropped}></textarea>
    <input type="file" multiple hidden ref=${input} onChange=${picked} />
    <${IconButton} icon="attach" label="Attach text files" onClick=${() => input.current.click()} />
    ${chat.isBusy
      ? html`<button type="button" class="round stop" key="stop" title="Stop (Escape)" aria-label="Stop" onClick=${stop}><${Icon} name="stop" /></button>`
      : html`<button type="submit" class="round" key="send" title="Send (Enter)" aria-label="Send" disabled=${!canSend}><${Icon} name="send" /></button>`}
    </div>
    <span class="sr" id="keys">Enter sends, Shift and Enter begin a new line, Escape stops the answer.</span>
  </form>`;
}
