/**
 * Conversations as they are stored: the segments of an answer and of its thoughts as one text each.
 *
 * Copying a text takes no time, and it is made only once for each answer, so storing a long
 * conversation does not hold the page up.
 */

const known = new WeakMap(); // segments -> {length, text}

function textOf(segments) {
  const found = known.get(segments);
  if (found?.length === segments.length) return found.text;
  const text = JSON.stringify(segments);
  known.set(segments, { length: segments.length, text });
  return text;
}

function mapAnswer(answer, change) {
  const { beside, after } = answer;
  return {
    ...change(answer),
    ...(beside && { beside: beside.map((one) => mapAnswer(one, change)) }),
    ...(after && { after: mapTurns(after, change) }),
  };
}

function mapTurns(turns, change) {
  return turns.map((turn) => (turn.versions ? { ...turn, versions: turn.versions.map((one) => mapAnswer(one, change)) } : turn));
}

/** The turns as they are stored. */
export function packed(turns) {
  return mapTurns(turns, ({ segments, thoughts, ...rest }) => ({
    ...rest,
    ...(segments?.length ? { packed: textOf(segments) } : { segments }),
    ...(thoughts?.length ? { packedThoughts: textOf(thoughts) } : { thoughts }),
  }));
}

/** The turns that were stored. */
export function unpacked(turns) {
  return mapTurns(turns, ({ packed: text, packedThoughts, ...rest }) => ({
    ...rest,
    ...(text && { segments: parsed(text) }),
    ...(packedThoughts && { thoughts: parsed(packedThoughts) }),
  }));
}

function parsed(text) {
  const segments = JSON.parse(text);
  known.set(segments, { length: segments.length, text });
  return segments;
}
