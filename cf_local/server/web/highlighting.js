/** The colours of code: places of its words by highlight.js, which is loaded when first needed. */

const LONGEST = 20_000; // characters; longer code stays plain

/** Collects places instead of HTML: the interface of highlight.js for that. */
class Places {
  found = [];
  #at = 0;
  #open = [];

  addText(text) {
    if (this.#open.length) this.found.push([this.#at, this.#at + text.length, this.#open.at(-1)]);
    this.#at += text.length;
  }

  openNode(scope) {
    this.#open.push(`c-${scope.split(".")[0]}`);
  }

  closeNode() {
    this.#open.pop();
  }

  startScope(scope) {
    this.openNode(scope);
  }

  endScope() {
    this.closeNode();
  }

  __addSublanguage(other) {
    for (const [from, to, name] of other.found) this.found.push([from + this.#at, to + this.#at, name]);
    this.#at += other.length;
  }

  get length() {
    return this.#at;
  }

  toHTML() {
    return "";
  }

  finalize() {}
}

let library = null;

async function load() {
  const { default: found } = await import("./vendor/highlight.js");
  found.configure({ __emitter: Places });
  return found;
}

/** The coloured places of the code, each `[from, to, class]`; none in an unknown language. */
export async function coloursOf(code, language) {
  const [name] = language.toLowerCase().match(/^[\w+#.-]+/) ?? [];
  if (!name || code.length > LONGEST) return [];
  library ??= load();
  const highlighter = await library;
  if (!highlighter.getLanguage(name)) return [];
  return highlighter.highlight(code, { language: name, ignoreIllegals: true })._emitter.found;
}
