/** The turns of a conversation, in the scrolling part of the page. */

import { AnswerView } from "./answerview.js";
import { shownAnswer } from "./conversation.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { Icon, IconButton } from "./icons.js";
import { Welcome } from "./welcome.js";

const NEAR = 60; // within this many pixels, the reader is at the end

function Question({ turn, canEdit, chat }) {
  const [text, setText] = useState(null); // what is being edited
  const area = useRef(null);
  useEffect(() => area.current?.focus(), [text === null]);
  const submit = (event) => {
    event.preventDefault();
    if (!text.trim()) return;
    setText(null);
    chat.edit(text);
  };
  const keys = (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      setText(null);
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  if (text !== null) {
    return html`<form class="question editing" onSubmit=${submit}>
      <label class="sr" for="edited">Your question</label>
      <textarea id="edited" ref=${area} rows="3" value=${text} onInput=${(event) => setText(event.target.value)} onKeyDown=${keys}></textarea>
      <div class="actions"><button type="submit" class="main">Ask again</button><button type="button" onClick=${() => setText(null)}>Cancel</button></div>
    </form>`;
  }
  return html`<div class="question">
    <div class="bubble" dir="auto"><span class="sr">You: </span>${turn.content}</div>
    ${canEdit && html`<${IconButton} icon="edit" label="Edit the question" onClick=${() => setText(turn.content)} />`}
  </div>`;
}

/** Follows new text while the reader is at the end. */
function useFollowing(id) {
  const root = useRef(null);
  const inner = useRef(null);
  const follows = useRef(true);
  const [isAway, setAway] = useState(false);
  const toEnd = () => {
    follows.current = true;
    root.current.scrollTop = root.current.scrollHeight;
  };
  useLayoutEffect(toEnd, [id]);
  const onScroll = () => {
    const { scrollHeight, scrollTop, clientHeight } = root.current;
    follows.current = scrollHeight - scrollTop - clientHeight < NEAR;
    setAway(!follows.current);
  };
  useEffect(() => {
    const observer = new ResizeObserver(() => {
      const isRead = root.current.querySelector(".card") !== null; // nothing moves under a card
      if (follows.current && !isRead) root.current.scrollTop = root.current.scrollHeight;
      else onScroll();
    });
    observer.observe(inner.current);
    observer.observe(root.current);
    return () => observer.disconnect();
  }, []);
  return { root, inner, isAway, toEnd, onScroll };
}

export function Thread({ chat }) {
  const { current } = chat;
  const { turns } = current;
  const { root, inner, isAway, toEnd, onScroll } = useFollowing(current.id);
  useLayoutEffect(toEnd, [turns.length]); // always show the user's own question
  const lastQuestion = turns.findLastIndex((turn) => turn.role === "user");
  return html`<main class="thread" ref=${root} onScroll=${onScroll} tabindex="-1" id="thread" aria-label="Conversation">
    <div class="column" ref=${inner}>
      ${turns.length === 0 && html`<${Welcome} chat=${chat} />`}
      ${turns.map((turn, at) =>
        turn.role === "user"
          ? html`<${Question} key=${`${current.id}-${at}`} turn=${turn} canEdit=${at === lastQuestion && !chat.isBusy} chat=${chat} />`
          : html`<${AnswerView} key=${`${current.id}-${at}-${turn.at}`} turn=${turn} answer=${shownAnswer(turn)} isLast=${at === turns.length - 1} chat=${chat} />`,
      )}
    </div>
    ${isAway && html`<button type="button" class="to-end" onClick=${toEnd}><${Icon} name="down" /><span class="sr">To the end</span></button>`}
  </main>`;
}
