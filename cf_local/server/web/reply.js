/** The answer of a turn; the sources' own answers next to it, if they were asked; and asking again. */

import { AnswerView } from "./answerview.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { IconButton } from "./icons.js";
import { Options } from "./options.js";
import { ModelSelect, ModeSelect } from "./picker.js";

/** Asks with which model and settings the question is answered again. */
function Again({ chat, index, onClose }) {
  const { current } = chat;
  const [how, setHow] = useState({ model: current.model, mode: current.mode, options: current.options });
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  const submit = (event) => {
    event.preventDefault();
    dialog.current.close();
    chat.regenerate(index, how);
  };
  return html`<dialog class="settings" ref=${dialog} aria-labelledby="again-title" onClose=${onClose}>
    <form class="inside" onSubmit=${submit}>
      <header><h2 id="again-title">Answer again with</h2><${IconButton} icon="close" label="Close" onClick=${() => dialog.current.close()} /></header>
      <div class="pair">
        <label class="field"><span>Model</span><${ModelSelect} chat=${chat} model=${how.model} onPick=${(model) => setHow({ ...how, model, mode: "" })} /></label>
        <label class="field"><span>Mode</span><${ModeSelect} chat=${chat} model=${how.model} mode=${how.mode} onPick=${(mode) => setHow({ ...how, mode })} /></label>
      </div>
      <${Options} settings=${chat.catalogue.settings} values=${how.options} onSet=${(options) => setHow({ ...how, options })} />
      <div class="actions"><button type="submit" class="main">Answer again</button></div>
    </form>
  </dialog>`;
}

export function Reply({ turn, answer, index, isLast, chat }) {
  const [isAsking, setAsking] = useState(false);
  const beside = answer.beside ?? [];
  const main = html`<${AnswerView} key="main" turn=${turn} answer=${answer} index=${index} isLast=${isLast} chat=${chat}
    onAgain=${() => setAsking(true)} title=${beside.length ? `${answer.model}, fused` : null} />`;
  return html`
    ${beside.length
      ? html`<div class="columns">${main}${beside.map((one) => html`<${AnswerView} key=${one.sources[0]} turn=${null} answer=${one} chat=${chat} title=${`${one.sources[0]} alone`} />`)}</div>`
      : main}
    ${isAsking && html`<${Again} chat=${chat} index=${index} onClose=${() => setAsking(false)} />`}`;
}
