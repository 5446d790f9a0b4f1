/** Makes invisible characters of a text visible. */

// Control characters except tab and line break, and characters that change the direction of text.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ud800-\udfff]/gu;

/** The text with control characters as symbols, so that no text can imitate another. */
export function visible(text) {
  return text.replace(HIDDEN, (sign) => {
    const code = sign.codePointAt(0);
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    return code >= 0xd800 ? "\ufffd" : `⟨${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}

/** A piece as a table shows it: spaces at its ends as ␣, line breaks as ↵, the end as ∎. */
export function marked(text, ends) {
  const shown = visible(text)
    .replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length))
    .replaceAll("\t", "⇥")
    .replaceAll("\n", "↵\n");
  return shown + (ends ? "∎" : "");
}

/** The letter of a source: A, B, ... Z, A2, B2, ... */
export function letter(index) {
  const round = Math.floor(index / 26);
  return String.fromCharCode(65 + (index % 26)) + (round ? round + 1 : "");
}
