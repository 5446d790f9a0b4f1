/** The parts of an answer, while it streams and afterwards. Plain functions over its data. */

import { Growing } from "./growing.js";

const layouts = new WeakMap(); // answer -> its layout so far
const watchers = new WeakMap(); // answer -> callbacks that redraw it

/** Call back whenever an answer grows; returns a function that stops it. */
export function watch(answer, listener) {
  const all = watchers.get(answer) ?? new Set();
  watchers.set(answer, all.add(listener));
  return () => all.delete(listener);
}

/** Notify the watchers of an answer that it has grown. */
export function tell(answer) {
  for (const listener of watchers.get(answer) ?? []) listener();
}

/**
 * Add one event from the server to an answer (see `api.ask`).
 *
 * The segments of a model that thinks are apart: those of its thoughts in `thoughts`, those of its
 * answer in `segments`. One that ends the thoughts may have a part in each.
 */
export function receive(answer, news) {
  if (news.reasoning && !answer.reasoning && !answer.content) open(answer);
  if (news.reasoning) answer.reasoning = (answer.reasoning ?? "") + news.reasoning;
  if (news.content) answer.content += news.content;
  const { segment, reasoning, content } = news;
  answer.thoughts ??= []; // of an earlier version of the page
  const isThought = Boolean(reasoning || (answer.reasoning && segment && !answer.content));
  if (isThought && (segment || answer.thoughts.length)) {
    answer.thoughts.push({ ...(segment && !segment.whole ? segment : PLAIN), text: reasoning ?? "" });
  }
  if (!answer.reasoning) {
    if (segment) answer.segments.push(segment);
  } else if ((segment && !isThought) || (content && (segment || answer.segments.length || answer.thoughts.length))) {
    answer.segments.push({ ...(segment ?? PLAIN), text: content ?? "" });
  }
  if (news.answer) answer.stats = news.answer;
  if (news.usage) answer.tokens = (answer.tokens ?? 0) + news.usage.completion_tokens;
  if (news.finish) answer.finish = news.finish;
}

const PLAIN = { whole: false, ends: false, agreed: true, winners: [], candidates: [] };

/** The thoughts begin; what came before them is the mark that opens them. */
function open(answer) {
  answer.thoughts = answer.segments.map((segment) => ({ ...segment, text: "" }));
  answer.segments = [];
  layouts.delete(answer);
}

const thoughts = new WeakMap(); // answer -> its thoughts

/** The thoughts of an answer as an answer of their own, to be shown like one. */
export function thoughtsOf(answer) {
  const { reasoning, sources, content } = answer;
  const found = thoughts.get(answer) ?? { options: {}, model: answer.model, mode: answer.mode };
  const state = answer.state === "running" && !content ? "running" : "done";
  Object.assign(found, { content: reasoning, segments: answer.thoughts ?? [], sources, state });
  thoughts.set(answer, found);
  return found;
}

/** The choice among whole answers; null if there is none, or not yet. */
export function choice(answer) {
  const last = answer.segments.at(-1);
  return last?.whole ? last : null;
}

/** Whether an answer was cut and can go on: a choice among whole answers cannot. */
export function canResume(answer) {
  const isCut = answer.state === "stopped" || answer.state === "failed" || answer.finish === "length";
  return Boolean(isCut && answer.content && !choice(answer) && !["cool+r", "rerank"].includes(answer.stats?.mode || answer.mode));
}

/** The range of segments that are shown: those of the fused answer, or the choice. */
export function shownRange(answer) {
  const { segments } = answer;
  const chosen = choice(answer);
  if (!chosen) return [0, segments.length];
  const isFused = chosen.winners.includes("(fused)") && segments.length > 1;
  return isFused ? [0, segments.length - 1] : [segments.length - 1, segments.length];
}

/** The Markdown to draw; grows with the answer. `number` changes when it restarts. */
export function layoutOf(answer, sources) {
  const { segments } = answer;
  const [from, to] = shownRange(answer);
  let known = layouts.get(answer);
  if (!known || known.from !== from) {
    known = { growing: new Growing(), from, fed: from, characters: 0, number: (known?.number ?? 0) + 1 };
    layouts.set(answer, known);
  }
  if (answer.state === "running") known.growing.reopen();
  for (; known.fed < to; known.fed += 1) known.growing.push(segments[known.fed].text, known.fed);
  if (!segments.length) {
    const text = answer.content.slice(known.characters); // a server that sends no trace
    if (text) known.growing.push(text, -1);
    known.characters = answer.content.length;
  }
  if (answer.state !== "running") known.growing.finish();
  if (known.context?.sources.join() !== sources.join()) known.context = { segments, sources };
  return known;
}

/** Whether the sources proposed different candidates. */
export function isDisputed(segment) {
  return segment.candidates.length > 1;
}

/** The sources that won; none if all proposed the same, or only one was asked. */
export function winnersOf(segment, sources) {
  if (segment.agreed || !isDisputed(segment)) return [];
  return sources.flatMap((name, index) => (segment.winners.includes(name) ? [index] : []));
}

/** The sources that take part in an answer, in order. */
export function sourcesOf(answer) {
  if (answer.sources.length) return answer.sources;
  const found = new Set();
  for (const segment of answer.segments)
    for (const candidate of segment.candidates)
      for (const name of candidate.sources) if (name !== "(fused)") found.add(name);
  return [...found].sort();
}

/** The share of segments that all proposed, and the disputed segments each source won, so far. */
export function tally(answer) {
  if (answer.stats && !answer.isResumed) return { agreement: answer.stats.agreement, wins: answer.stats.wins };
  const segments = [...(answer.thoughts ?? []), ...answer.segments].filter((segment) => !segment.whole);
  const wins = {};
  for (const segment of segments) {
    for (const name of isDisputed(segment) && !segment.agreed ? segment.winners : []) wins[name] = (wins[name] ?? 0) + 1;
  }
  const agreed = segments.filter((segment) => !isDisputed(segment)).length;
  return { agreement: segments.length ? agreed / segments.length : null, wins };
}

const WORD = /[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Thai}]|[^\s\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Thai}]+/gu;

/** The number of words in a text; in scripts without spaces, every character counts. */
export function countWords(text) {
  return text.match(WORD)?.length ?? 0;
}

/** The text so far, even before the choice among whole answers. */
export function textOf(answer) {
  return answer.content || answer.segments.map((segment) => segment.text).join("");
}
