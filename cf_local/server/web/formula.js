/** A formula, drawn as MathML; until it is drawn, and if it is not one, its text. */

import { isDisputed } from "./answer.js";
import { html, useLayoutEffect, useRef, useState } from "./html.js";
import { Mark, Parts } from "./pieces.js";

const NAMES = /^m(?:ath|i|n|o|s|text|space|row|frac|sqrt|root|style|error|padded|phantom|sub|sup|subsup|under|over|underover|multiscripts|prescripts|table|tr|td|enclose)$/;
const ATTRIBUTES = /^(?:class|style|display|displaystyle|scriptlevel|mathvariant|mathcolor|mathbackground|mathsize|dir|accent|accentunder|stretchy|symmetric|fence|separator|lspace|rspace|largeop|movablelimits|minsize|maxsize|form|linethickness|width|height|depth|voffset|columnalign|rowalign|rowspacing|columnspacing|columnlines|rowlines|columnspan|rowspan|notation|intent|arg)$/;
const LONGEST = 5000; // characters

let temml = null;

/** The formula as an element, or null. */
function drawn(tex, isDisplayed) {
  if (!tex.trim() || tex.length > LONGEST) return null;
  const found = document.createElement("span");
  try {
    temml.render(tex, found, { displayMode: isDisplayed, throwOnError: true, trust: false, maxExpand: 200, maxSize: [20, 200] });
  } catch {
    return null;
  }
  return isHarmless(found) ? found.firstChild : null;
}

/** Whether there is nothing but MathML that neither links nor loads. */
function isHarmless(root) {
  return [...root.querySelectorAll("*")].every((one) =>
    NAMES.test(one.localName) && [...one.attributes].every(({ name, value }) => ATTRIBUTES.test(name) && !/url\s*\(/i.test(value)));
}

export function Formula({ node, context }) {
  const { tex, isDisplayed, isBlock, parts } = node;
  const root = useRef(null);
  const [isReady, setReady] = useState(temml !== null);
  const [isDrawn, setDrawn] = useState(false);
  useLayoutEffect(() => {
    if (!isReady) {
      import("./vendor/temml.js").then((module) => {
        temml = module.default;
        setReady(true);
      });
      return;
    }
    const found = drawn(tex, isDisplayed);
    root.current.replaceChildren(...(found ? [found] : []));
    setDrawn(found !== null);
  }, [isReady, tex]);
  const marks = parts.filter(({ index }, at) => context.segments[index] && isDisputed(context.segments[index]) && parts[at - 1]?.index !== index);
  return html`<span class=${`math ${isDisplayed ? "displayed" : ""} ${isBlock ? "block" : ""}`} dir="ltr">
    <span ref=${root} key="drawn" tabindex=${isDrawn && isDisplayed ? 0 : null} role=${isDrawn && isDisplayed ? "group" : null} aria-label=${isDrawn && isDisplayed ? "Formula" : null}></span>
    ${isDrawn ? marks.map(({ index }) => html`<${Mark} index=${index} context=${context} />`) : html`<span class="tex" key="tex"><${Parts} parts=${parts} context=${context} /></span>`}
  </span>`;
}
