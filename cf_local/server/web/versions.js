/**
 * Versions of questions and answers: a conversation is a tree, one path of which is shown.
 *
 * A turn has `versions` and `at`, the one that is shown (a question only once it was edited). The
 * turns that followed another version are kept in it, in `after`.
 */

/** The number of versions of a turn. */
export function countOf(turn) {
  return turn.versions?.length ?? 1;
}

/** Show another version of a turn, with the turns that followed it. */
export function show(conversation, index, to) {
  const turn = conversation.turns[index];
  turn.versions[turn.at].after = conversation.turns.slice(index + 1);
  turn.at = to;
  const shown = turn.versions[to];
  if (turn.role === "user") Object.assign(turn, { content: shown.content, files: shown.files });
  conversation.turns = [...conversation.turns.slice(0, index + 1), ...(shown.after ?? [])];
  shown.after = null;
}

/** Add a version of a turn and show it; what followed stays with the version before. */
export function add(conversation, index, version) {
  const turn = conversation.turns[index];
  turn.versions ??= [{ content: turn.content, files: turn.files }];
  turn.at ??= 0;
  turn.versions.push(version);
  show(conversation, index, turn.versions.length - 1);
}

/** Put an answer at an index: as a new turn, or as a version of the turn that is there. */
export function place(conversation, index, answer) {
  const turn = conversation.turns[index];
  if (!turn) {
    conversation.turns = [...conversation.turns, { role: "assistant", versions: [answer], at: 0 }];
    return;
  }
  const { content, segments, reasoning } = turn.versions[turn.at];
  const isEmpty = !content && !segments.length && !reasoning;
  add(conversation, index, answer);
  if (isEmpty) dropBefore(turn);
}

/** Drop the version before the last one: an attempt that produced nothing. */
function dropBefore(turn) {
  const at = turn.versions.length - 2;
  if (turn.versions[at].after?.length) return;
  turn.versions.splice(at, 1);
  turn.at = turn.versions.length - 1;
}

/** Remove what is shown of a turn: one of several versions, or the turn; a question with its answer. */
export function remove(conversation, index) {
  const turn = conversation.turns[index];
  if (countOf(turn) > 1) {
    const at = turn.at;
    show(conversation, index, at > 0 ? at - 1 : 1);
    turn.versions.splice(at, 1);
    turn.at = Math.max(0, at - 1);
    return;
  }
  const isAnswered = turn.role === "user" && conversation.turns[index + 1]?.role === "assistant";
  conversation.turns = conversation.turns.toSpliced(index, isAnswered ? 2 : 1);
}
