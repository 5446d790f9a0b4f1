/**
 * Nodes of Markdown: `{kind, from, to, ...}`, with `children` or, at the leaves, `parts` of the
 * text as a cutter makes them (see `growing.js`). `sign` changes when anything in the node does.
 */

const RUN = 64; // parts in one leaf: a long paragraph is redrawn only where it grows

/** Leaves of up to 64 parts. */
export function runs(kind, parts) {
  const found = [];
  for (let at = 0; at < parts.length; at += RUN) {
    const some = parts.slice(at, at + RUN);
    found.push(signed({ kind, from: some[0].from, to: some.at(-1).to, parts: some }));
  }
  return found;
}

/** The node with its sign, which says whether it must be drawn again. */
export function signed(node) {
  let sign = node.from ^ (node.isClosed ? 7 : 0) ^ (node.isLoose ? 14 : 0);
  const mix = (number) => (sign = Math.imul(sign ^ number, 0x01000193) ^ (sign >>> 15));
  for (const letter of node.kind) mix(letter.charCodeAt(0));
  for (const { from, to, index } of node.parts ?? []) mix(from), mix(to), mix(index);
  for (const child of node.children ?? []) mix(child.sign);
  mix(node.to);
  node.sign = sign;
  return node;
}
