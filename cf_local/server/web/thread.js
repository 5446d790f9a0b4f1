/** The turns of a conversation, in the scrolling part of the page. */

import { shownAnswer } from "./conversation.js";
import { Component, html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { Icon } from "./icons.js";
import { Question } from "./question.js";
import { Reply } from "./reply.js";
import { Welcome } from "./welcome.js";

const NEAR = 60; // within this many pixels, the reader is at the end

const numbers = new WeakMap(); // of answers and questions: each is drawn by a component of its own
let nNumbers = 0;

function numberOf(thing) {
  if (!numbers.has(thing)) numbers.set(thing, (nNumbers += 1));
  return numbers.get(thing);
}

/** One turn; drawn again only when something in it has changed. A running answer redraws itself. */
class Turn extends Component {
  shouldComponentUpdate({ sign, turn, index }) {
    return sign !== this.props.sign || turn !== this.props.turn || index !== this.props.index;
  }

  render({ turn, index, isLast, chat }) {
    if (turn.role === "user") return html`<${Question} turn=${turn} index=${index} chat=${chat} />`;
    return html`<${Reply} turn=${turn} answer=${shownAnswer(turn)} index=${index} isLast=${isLast} chat=${chat} />`;
  }
}

/** What a turn looks like depends on. */
function signOf(turn, chat, isLast) {
  const all = turn.role === "user" ? [] : [shownAnswer(turn), ...(shownAnswer(turn).beside ?? [])];
  return [turn.content, turn.at, turn.versions?.length, chat.isBusy, isLast, ...all.map(({ state, content }) => `${state}${content.length}`)].join("/");
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
      const isRead = "card" in root.current.dataset; // nothing moves under a card
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
  const isWide = turns.some((turn) => turn.role === "assistant" && shownAnswer(turn).beside?.length);
  useLayoutEffect(toEnd, [turns.length]); // always show the user's own question
  return html`<main class="thread" ref=${root} onScroll=${onScroll} tabindex="-1" id="thread" data-away=${isAway ? "" : null} aria-label="Conversation">
    <div class=${`column ${isWide ? "wide" : ""}`} ref=${inner}>
      ${turns.length === 0 && html`<${Welcome} chat=${chat} />`}
      ${turns.map((turn, at) => {
        const isLast = at === turns.length - 1;
        return html`<${Turn} key=${numberOf(turn.role === "user" ? turn : shownAnswer(turn))} turn=${turn} sign=${signOf(turn, chat, isLast)} index=${at} isLast=${isLast} chat=${chat} />`;
      })}
    </div>
    ${isAway && html`<button type="button" class="to-end" onClick=${toEnd}><${Icon} name="down" /><span class="sr">To the end</span></button>`}
  </main>`;
}
