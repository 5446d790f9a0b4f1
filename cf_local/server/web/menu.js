/** A button that opens a short list of actions. */

import { html, useEffect, useRef, useState } from "./html.js";
import { Icon, IconButton } from "./icons.js";

/** `items`: each `{label, icon, run}`; false ones are left out. */
export function Menu({ label, items }) {
  const [isOpen, setOpen] = useState(false);
  const root = useRef(null);
  useEffect(() => {
    if (!isOpen) return undefined;
    root.current.querySelector("[role=menuitem]")?.focus();
    const outside = (event) => {
      if (!root.current.contains(event.target)) setOpen(false);
    };
    document.addEventListener("pointerdown", outside);
    return () => document.removeEventListener("pointerdown", outside);
  }, [isOpen]);
  const close = () => {
    setOpen(false);
    root.current.querySelector("button").focus();
  };
  const keys = (event) => {
    const all = [...root.current.querySelectorAll("[role=menuitem]")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      all.at((all.indexOf(document.activeElement) + step) % all.length).focus();
    } else if (event.key === "Escape" && isOpen) {
      event.stopPropagation();
      close();
    } else if (event.key === "Tab") setOpen(false);
  };
  const run = (item) => () => {
    close();
    item.run();
  };
  return html`<div class="menu" ref=${root} onKeyDown=${keys}>
    <${IconButton} icon="more" label=${label} aria-haspopup="menu" aria-expanded=${isOpen} onClick=${() => setOpen(!isOpen)} />
    ${isOpen && html`<div role="menu" aria-label=${label}>
      ${items.filter(Boolean).map((item) => html`<button type="button" role="menuitem" tabindex="-1" key=${item.label} onClick=${run(item)}><${Icon} name=${item.icon} /> ${item.label}</button>`)}
    </div>`}
  </div>`;
}

/** Which version of a turn is shown, and buttons to the others. */
export function Versions({ turn, what, onShow }) {
  const count = turn.versions?.length ?? 1;
  if (count < 2) return null;
  return html`<span class="versions" role="group" aria-label=${`Versions of this ${what}`}>
    <${IconButton} icon="back" label="Version before" disabled=${turn.at === 0} onClick=${() => onShow(turn.at - 1)} />
    <span><span class="sr">version </span>${turn.at + 1}/${count}</span>
    <${IconButton} icon="next" label="Next version" disabled=${turn.at === count - 1} onClick=${() => onShow(turn.at + 1)} />
  </span>`;
}
