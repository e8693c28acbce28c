// The list of this session's questions. `page` calls it.

import { stateOf } from "./answer.js";
import { ACTIVE } from "./job.js";
import { count, el, plain, say } from "./writing.js";

const LONGEST = 90;

export class HistoryList {
  #parts;
  #items = new Map();
  #onSelect;

  constructor(parts, onSelect) {
    this.#parts = parts;
    this.#onSelect = onSelect;
  }

  show(jobs) {
    const { list, empty, clear } = this.#parts;
    empty.hidden = jobs.all.length > 0;
    clear.hidden = jobs.all.every((job) => ACTIVE.has(job.state));
    for (const [job, item] of this.#items) {
      if (!jobs.all.includes(job)) {
        item.remove();
        this.#items.delete(job);
      }
    }
    jobs.all.forEach((job, at) => {
      const item = this.#items.get(job) ?? this.#add(job);
      if (list.children[at] !== item) list.insertBefore(item, list.children[at] ?? null);
      this.#refresh(item.firstElementChild, job, job === jobs.selected);
    });
  }

  #add(job) {
    const button = el("button", { type: "button", class: "past" });
    button.append(el("span", { class: "asked", dir: "auto" }, plain(job.prompt).slice(0, LONGEST)), el("span", { class: "how" }));
    button.addEventListener("click", () => this.#onSelect(job));
    const item = el("li", {}, button);
    this.#items.set(job, item);
    return item;
  }

  #refresh(button, job, selected) {
    if (selected) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    button.dataset.state = job.state;
    say(button.lastElementChild, stateOf(job) + (job.tokens ? ` · ${count(job.tokens, "token")}` : ""));
  }
}
