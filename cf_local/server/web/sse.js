/**
 * Reads server-sent events from a stream of bytes, wherever the network splits it.
 *
 * Only what an answer needs: the data of each event. Names, ids and retry times are ignored, as
 * are comments, which keep the connection alive.
 */

/** Joins pieces of text into lines; LF, CR LF and CR end a line. */
export class Lines {
  #rest = "";

  /** The lines that are complete with this piece. */
  push(text) {
    this.#rest += text;
    const held = this.#rest.endsWith("\r") ? "\r" : ""; // half of a CR LF, perhaps
    const lines = this.#rest.slice(0, this.#rest.length - held.length).split(/\r\n|\n|\r/);
    this.#rest = lines.pop() + held;
    return lines;
  }
}

/** Joins lines into the data of events. */
export class Events {
  #lines = new Lines();
  #data = [];

  /** The data of each event that is complete with this piece of text. */
  push(text) {
    const found = [];
    for (const line of this.#lines.push(text)) {
      if (line === "") {
        if (this.#data.length) found.push(this.#data.join("\n"));
        this.#data = [];
      } else if (line === "data" || line.startsWith("data:")) {
        this.#data.push(line.slice(5).replace(/^ /, ""));
      }
    }
    return found;
  }
}

/** The data of each event of a response's body, as it comes. */
export async function* read(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder(); // buffers the first bytes of a split character
  const events = new Events();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* events.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {}); // tell the server if the reader stops early
  }
}
