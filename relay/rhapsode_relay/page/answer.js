// The panel of what the worker says: the question, the tokens, and how it went. `page` calls it.

import { ACTIVE } from "./job.js";
import { atBottom } from "./story.js";
import { count, el, milliseconds, number, plain, say } from "./writing.js";

const STATES = {
  sending: "Sending", queued: "Waiting", running: "Answering", completed: "Complete", cancelled: "Cancelled",
  failed: "Failed",
};
const REASONS = { length: "It stopped at its limit of tokens.", stop: "" };

/** Returns in a few words how a job is. */
export function stateOf(job) {
  if (job.cancelling && ACTIVE.has(job.state)) return "Cancelling";
  if (job.state === "queued" && job.position > 0) return `Waiting, ${job.position} before it`;
  return STATES[job.state];
}

export class AnswerPanel {
  #parts;
  #job = null;
  #text = document.createTextNode("");

  constructor(parts) {
    this.#parts = parts;
    parts.text.append(this.#text);
  }

  show(job) {
    const { section, empty, question, text, state, trouble, again, scroller } = this.#parts;
    const stays = atBottom(scroller);
    if (job !== this.#job) this.#text.data = "";
    this.#job = job;
    empty.hidden = job !== null;
    section.hidden = job === null;
    state.hidden = job === null;
    if (job === null) return;
    say(question, job.prompt);
    say(state, stateOf(job));
    state.dataset.state = job.state;
    this.#write(job.text);
    const live = ACTIVE.has(job.state);
    text.classList.toggle("live", live && job.text !== "");
    again.hidden = live;
    trouble.hidden = !troubleOf(job);
    say(trouble, troubleOf(job));
    trouble.dataset.state = job.state;
    this.#measure(job);
    if (stays) scroller.scrollTop = scroller.scrollHeight;
  }

  /** Text is only added to as long as what is shown is its beginning. */
  #write(text) {
    const shown = this.#text.data;
    if (text === shown) return;
    if (text.startsWith(shown)) this.#text.appendData(text.slice(shown.length));
    else this.#text.data = text;
  }

  #measure(job) {
    const { figures, proof, copy } = this.#parts;
    const rows = figuresOf(job);
    if (figures.dataset.rows !== JSON.stringify(rows)) {
      figures.dataset.rows = JSON.stringify(rows);
      figures.replaceChildren(...rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
    }
    copy.hidden = !job.text || !navigator.clipboard;
    say(proof, PROOFS[job.proof] ?? "");
    proof.dataset.proof = job.proof;
  }
}

const PROOFS = {
  matches: "✓ Nothing was lost: the text is the one that was sent.",
  differs: "! This text is not the one that was sent. Ask again.",
};

function figuresOf(job) {
  const { ttft_ms, tok_s, queue_ms } = job.figures ?? {};
  return [
    ["Tokens", job.tokens || job.figures ? number(job.tokens) : ""],
    ["First token", ttft_ms === undefined ? "" : milliseconds(ttft_ms)],
    ["Speed", tok_s === undefined ? "" : `${tok_s.toFixed(1)}/s`],
    ["Waited", queue_ms === undefined ? "" : milliseconds(queue_ms)],
    ["Prompt", job.ending ? count(job.ending.usage.prompt_tokens, "token") : ""],
  ].filter(([, value]) => value !== "");
}

/** Returns what is to be said beside the text. */
function troubleOf(job) {
  if (ACTIVE.has(job.state)) return job.text ? "" : "No word yet. What happens meanwhile stands beside it.";
  if (job.state === "cancelled") return "Cancelled. What had come stays.";
  if (job.error) return plain(job.error.message) + (job.error.retryable ? " Asking again may help." : "");
  return REASONS[job.ending?.stop_reason] ?? "";
}
