/**
 * Conversations as plain data, and functions over them.
 *
 * A conversation has turns: `{role: "user", content}` and `{role: "assistant", versions, at}`. A
 * version is an answer: its text, the segments it was fused from, who answered, how it ended.
 */

const TITLE = 60; // characters

/** A unique id for a conversation; works without a secure context. */
export function newId() {
  const random = crypto.getRandomValues(new Uint32Array(2));
  return Date.now().toString(36) + random[0].toString(36) + random[1].toString(36);
}

/** An empty conversation. */
export function empty(model, mode) {
  const now = Date.now();
  return {
    id: newId(), title: "New chat", named: false, created: now, updated: now,
    model, mode, system: "", options: {}, turns: [],
  };
}

/** An empty answer. `state`: "running", "done", "stopped", "failed". */
export function emptyAnswer(model, mode, sources, options = {}) {
  return {
    content: "", reasoning: "", thoughts: [], segments: [], model, mode, sources, options, state: "running",
    finish: null, error: null, stats: null, tokens: null, seconds: null, waited: null, thought: null,
  };
}

/** A stored conversation in today's form; an answer whose page was closed is marked as stopped. */
export function mended(conversation, isRunning) {
  const { temperature = null, maxTokens = null, ...rest } = conversation;
  const options = { ...(temperature !== null && { temperature }), ...(maxTokens !== null && { max_tokens: maxTokens }) };
  const found = { ...rest, options: { ...options, ...conversation.options } };
  for (const answer of isRunning ? [] : found.turns.flatMap(answersOf)) if (answer.state === "running") answer.state = "stopped";
  return found;
}

/** All answers of a turn: its versions, and those next to them. */
export function answersOf(turn) {
  if (turn.role !== "assistant") return [];
  return turn.versions.flatMap((answer) => [answer, ...(answer.beside ?? [])]);
}

/** A question as the models read it: the texts of attached files come first. */
export function questionOf({ content, files }) {
  const told = (files ?? []).map(({ name, text }) => {
    const fence = "`".repeat(Math.max(3, ...(text.match(/`+/g) ?? []).map((run) => run.length + 1)));
    return `File “${name}”:\n${fence}\n${text.replace(/\n$/, "")}\n${fence}`;
  });
  return [...told, content].filter(Boolean).join("\n\n");
}

/** All words of a conversation, for the search. */
export function wordsOf({ title, turns }) {
  const said = turns.map((turn) => (turn.role === "user" ? questionOf(turn) : shownAnswer(turn).content));
  return [title, ...said].join("\n");
}

/** The answer of a turn that is shown. */
export function shownAnswer(turn) {
  return turn.versions[turn.at];
}

/** The first words of a text. */
export function titleOf(text) {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > TITLE ? `${line.slice(0, TITLE - 1).trimEnd()}…` : line || "New chat";
}

/**
 * The messages to send for the answer at that index; with `continues`, its text so far is the last.
 *
 * Questions without an answer are left out: chat templates require the roles to alternate.
 */
export function messages(conversation, index, continues = false) {
  const found = conversation.system.trim() ? [{ role: "system", content: conversation.system }] : [];
  const { turns } = conversation;
  for (let at = 0; at < index; at += 1) {
    const turn = turns[at];
    if (turn.role === "user") {
      const answer = turns[at + 1]?.role === "assistant" ? shownAnswer(turns[at + 1]).content : "";
      if (at === index - 1 || answer) found.push({ role: "user", content: questionOf(turn) });
    } else if (shownAnswer(turn).content) {
      found.push({ role: "assistant", content: shownAnswer(turn).content });
    }
  }
  if (continues) found.push({ role: "assistant", content: shownAnswer(turns[index]).content });
  return found;
}

/** The conversation as a file: messages of OpenAI's API, and what else is needed to continue it. */
export function exported(conversation) {
  const { title, model, mode, turns } = conversation;
  const system = conversation.system.trim() ? [{ role: "system", content: conversation.system }] : [];
  const said = turns.map((turn) => ({
    role: turn.role,
    content: turn.role === "user" ? questionOf(turn) : shownAnswer(turn).content,
  }));
  return { title, model: mode ? `${model}:${mode}` : model, messages: [...system, ...said] };
}

/** The conversations in the text of a file; raises an Error that says what is wrong with it. */
export function imported(text, model) {
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    throw new Error("The file is not JSON.");
  }
  const isMessages = Array.isArray(found) && found.length > 0 && found.every((one) => one?.role);
  const several = Array.isArray(found) && !isMessages ? found : [found];
  if (!several.length) throw new Error("The file contains no conversation.");
  return several.map((one) => conversationOf(isMessages ? { messages: one } : one, model));
}

function conversationOf(one, model) {
  if (!Array.isArray(one?.messages)) throw new Error("The file has no list “messages”.");
  const conversation = empty(model, "");
  one.messages.forEach((message, index) => {
    const content = textOf(message?.content);
    if (content === null) throw new Error(`The content of message ${index + 1} is not text.`);
    add(conversation, message.role, content, index);
  });
  const question = conversation.turns.find((turn) => turn.role === "user");
  const title = typeof one.title === "string" ? one.title : "";
  return { ...conversation, title: titleOf(title || question?.content || ""), named: title !== "" };
}

function add(conversation, role, content, index) {
  if (role === "system" || role === "developer") {
    conversation.system = [conversation.system, content].filter(Boolean).join("\n\n");
  } else if (role === "user") {
    conversation.turns.push({ role, content });
  } else if (role === "assistant") {
    const answer = { ...emptyAnswer("", "", []), content, state: "done" };
    conversation.turns.push({ role, versions: [answer], at: 0 });
  } else {
    throw new Error(`Message ${index + 1} has the role “${role}”; system, user and assistant can be read.`);
  }
}

function textOf(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return null;
  return content.every((part) => typeof part?.text === "string")
    ? content.map((part) => part.text).join("")
    : null;
}
