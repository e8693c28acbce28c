// The box where a question is written, and what its keys do. `page` calls it.

import { choices } from "./remembering.js";
import { ACTIVE } from "./job.js";
import { say } from "./writing.js";

export class AskBox {
  #parts;
  #jobs;

  constructor(parts, jobs) {
    this.#parts = parts;
    this.#jobs = jobs;
    const { form, prompt, most, cancel } = parts;
    most.value = choices.get("max_tokens") ?? most.value;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    form.addEventListener("keydown", (event) => this.#key(event));
    cancel.addEventListener("click", () => {
      jobs.cancel(jobs.selected);
      prompt.focus(); // The button is about to be disabled, and focus must not get lost.
    });
  }

  show(watch) {
    const { most, send, cancel, hint } = this.#parts;
    const context = watch.state?.caps?.context_tokens;
    if (context) most.max = context;
    send.disabled = this.#jobs.full;
    cancel.disabled = !this.#mayCancel();
    hint.classList.toggle("full", this.#jobs.full);
    say(hint, this.#jobs.full ? "Three answers are under way: wait for one, or cancel it." : "Ctrl + Enter sends, Escape cancels.");
  }

  #mayCancel() {
    const job = this.#jobs.selected;
    return job !== null && ACTIVE.has(job.state) && !job.cancelling;
  }

  #key(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) {
      event.preventDefault();
      this.#parts.form.requestSubmit();
    }
    if (event.key === "Escape" && this.#mayCancel() && !event.isComposing) this.#jobs.cancel(this.#jobs.selected);
  }

  #send() {
    const { prompt, most } = this.#parts;
    if (this.#jobs.full || !prompt.value.trim()) return;
    choices.set("max_tokens", most.value);
    this.#jobs.ask(prompt.value, Number(most.value));
    prompt.value = "";
    prompt.focus();
  }
}
