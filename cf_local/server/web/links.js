/** Links in what models write: none is followed before the reader has seen where it goes. */

import { html, useEffect, useRef, useState } from "./html.js";
import { visible } from "./visible.js";

let ask = () => {}; // shows an address

/** A link, or a picture, which is not loaded. */
export function Link({ href, isPicture, children }) {
  const click = (event) => {
    event.preventDefault();
    event.stopPropagation(); // the card of a piece stays closed
    ask(href);
  };
  return html`<a class="outside" href=${href} target="_blank" rel="noopener noreferrer nofollow" title=${visible(href)} onClick=${click} onAuxClick=${click}>
    ${isPicture && html`<span class="picture">picture: </span>`}${children}</a>`;
}

/** Shows the whole address, and opens it if the reader wants to. */
export function Leaving() {
  const [href, setHref] = useState(null);
  const dialog = useRef(null);
  ask = setHref;
  useEffect(() => {
    if (href !== null) dialog.current.showModal();
  }, [href]);
  if (href === null) return null;
  const close = () => dialog.current.close();
  return html`<dialog class="confirm leaving" ref=${dialog} aria-labelledby="leaving-title" onClose=${() => setHref(null)}>
    <h2 id="leaving-title">Open this address?</h2>
    <p>A model wrote it. It may not exist, or may not be what it seems.</p>
    <p class="address" dir="ltr">${visible(href)}</p>
    <div class="actions">
      <button type="button" onClick=${close}>Cancel</button>
      <a class="button main" href=${href} target="_blank" rel="noopener noreferrer nofollow" onClick=${close}>Open</a>
    </div>
  </dialog>`;
}
