/** A block of code: its language, a copy button, and colours of its grammar. */

import { textToClipboard } from "./clipboard.js";
import { coloursOf } from "./highlighting.js";
import { Component, html, useEffect, useRef, useState } from "./html.js";
import { IconButton } from "./icons.js";
import { Parts } from "./pieces.js";
import { visible } from "./visible.js";

/** Some lines of the code; drawn again only when their text or colours change. */
class Lines extends Component {
  shouldComponentUpdate({ node, context, colours, at }) {
    const { props } = this;
    return node.sign !== props.node.sign || context !== props.context || at !== props.at || key(colours) !== key(props.colours);
  }

  render({ node, context, colours, at }) {
    const starts = new Map();
    for (const part of node.parts) {
      starts.set(part, at);
      at += part.text.length;
    }
    const inside = (part, text) => coloured(text, starts.get(part) + part.text.indexOf(text), colours);
    return html`<${Parts} parts=${node.parts} context=${context} inside=${inside} />`;
  }
}

function key(colours) {
  return colours.flat().join(" ");
}

/** A text that starts at that place of the code, in its colours. */
function coloured(text, start, colours) {
  const end = start + text.length;
  const found = [];
  let at = start;
  for (const [from, to, name] of colours) {
    if (to <= at || from >= end) continue;
    const [first, last] = [Math.max(from, at), Math.min(to, end)];
    if (first > at) found.push(visible(text.slice(at - start, first - start)));
    found.push(html`<span class=${name}>${visible(text.slice(first - start, last - start))}</span>`);
    at = last;
  }
  if (at < end) found.push(visible(text.slice(at - start)));
  return found;
}

export function Fence({ node, context }) {
  const code = node.children.map(({ parts }) => parts.map(({ text }) => text).join(""));
  const whole = code.join("");
  const [colours, setColours] = useState([]);
  const latest = useRef("");
  const timer = useRef(0);
  latest.current = whole;
  useEffect(() => {
    if (timer.current) return; // a growing block gets its colours a few times a second
    timer.current = setTimeout(async () => {
      timer.current = 0;
      setColours(await coloursOf(latest.current, node.language));
    }, colours.length && !node.isClosed ? 300 : 0);
  }, [whole]);
  useEffect(() => () => clearTimeout(timer.current), []);
  let at = 0;
  const lines = node.children.map((child, index) => {
    const [from, to] = [at, (at += code[index].length)];
    const some = colours.filter((one) => one[1] > from && one[0] < to);
    return html`<${Lines} key=${index} node=${child} context=${context} colours=${some} at=${from} />`;
  });
  return html`<figure class="code">
    <figcaption><span>${visible(node.language) || "code"}</span><${Copy} text=${whole} /></figcaption>
    <pre tabindex="0" dir="ltr" aria-label="Code"><code>${lines}</code></pre>
  </figure>`;
}

function Copy({ text }) {
  const [isDone, setDone] = useState(false);
  const copy = async (event) => {
    event.stopPropagation();
    await textToClipboard(text);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<${IconButton} icon=${isDone ? "done" : "copy"} label=${isDone ? "Copied" : "Copy the code"} onClick=${copy} />`;
}
