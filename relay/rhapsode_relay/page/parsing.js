// Server-sent events out of text that comes in pieces. Pure; what it says of lines and ids is the HTML standard's.

export class EventParser {
  #rest = "";
  #event = "";
  #data = [];
  #id = "";

  /** Returns the events `{id, event, data}` that this piece completes. */
  push(piece) {
    const text = this.#rest + piece;
    const whole = text.endsWith("\r") ? text.slice(0, -1) : text; // an LF may follow
    const lines = whole.split(/\r\n|\n|\r/);
    this.#rest = lines.pop() + text.slice(whole.length);
    return lines.map((line) => this.#take(line)).filter((event) => event !== null);
  }

  #take(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this.#event = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    return null;
  }

  #dispatch() {
    const event = { id: this.#id, event: this.#event || "message", data: parsed(this.#data.join("\n")) };
    const some = this.#data.length > 0 && event.data !== null;
    this.#event = "";
    this.#data = [];
    return some ? event : null;
  }
}

/** What is no JSON object is no event of ours. */
function parsed(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}
