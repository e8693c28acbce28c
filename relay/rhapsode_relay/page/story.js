// The panel of what the worker does: a story, sentence by sentence, in one of three voices. `page` calls it.

import { count, el, percent, plain, span } from "./writing.js";

export const STYLES = ["human", "cute", "story"];

/** Returns a sentence in a voice; what has no words there is said plainly. */
export function voiced(one, style) {
  return plain(one[style] || one.human);
}

export class StoryPanel {
  #list;
  #empty;
  #shown = [];
  #style = "";
  #since = null;

  constructor(list, empty) {
    this.#list = list;
    this.#empty = empty;
  }

  /** Shows a story; `since` is when it begins, null for times of day. What is shown already is left alone. */
  show(story, style, since) {
    if (style !== this.#style || since !== this.#since || !this.#continues(story)) this.#clear(style, since);
    const stays = atBottom(this.#list);
    while (this.#shown.length && this.#shown.at(-1) !== story[this.#shown.length - 1]) {
      this.#shown.pop();
      this.#list.lastElementChild.remove();
    }
    const fresh = story.slice(this.#shown.length);
    this.#list.append(...fresh.map((one) => this.#line(one)));
    this.#shown.push(...fresh);
    this.#empty.hidden = story.length > 0;
    if (stays && fresh.length) this.#list.scrollTop = this.#list.scrollHeight;
  }

  /** A story goes on when all but its last sentence stand as they were. */
  #continues(story) {
    const sure = this.#shown.length - 1;
    return story.length >= sure && (sure < 1 || story[sure - 1] === this.#shown[sure - 1]);
  }

  #clear(style, since) {
    this.#list.replaceChildren();
    this.#shown = [];
    this.#style = style;
    this.#since = since;
  }

  #line(one) {
    const line = el("li", { class: `line ${["warn", "error"].includes(one.level) ? one.level : ""}` });
    const words = el("p", { class: "words", dir: "auto" }, voiced(one, this.#style));
    if (one.level === "warn" || one.level === "error") words.prepend(el("strong", {}, `${one.level === "warn" ? "Warning" : "Error"}: `));
    const time = el("time", { datetime: plain(one.ts), title: clock(one.ts) }, this.#time(one.ts));
    line.append(words, el("span", { class: "aside" }, el("span", { class: "actor" }, plain(one.actor)), " ", time));
    if (one.dropped) line.append(el("span", { class: "dropped" }, `${count(one.dropped, "sentence")} left out before this`));
    if (typeof one.progress === "number") line.append(bar(one.progress, "Progress"));
    return line;
  }

  #time(ts) {
    if (this.#since === null) return clock(ts);
    const seconds = (Date.parse(ts) - this.#since) / 1000;
    if (Number.isNaN(seconds)) return "";
    return seconds < 0 ? "before" : `+${seconds < 10 ? seconds.toFixed(2) + " s" : span(seconds)}`;
  }
}

function clock(ts) {
  const at = new Date(ts);
  return Number.isNaN(at.getTime()) ? "" : at.toLocaleTimeString("en-GB");
}

/** Returns whether a list is read at its end, where new lines should move it. */
export function atBottom(element) {
  return element.scrollHeight - element.scrollTop - element.clientHeight < 40;
}

/** Makes a bar; `text` is what it measures. */
export function bar(fraction, label, text = percent(fraction), role = "progressbar") {
  const inner = el("span", { class: "fill" });
  const outer = el("div", { class: "bar", role, "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 }, inner);
  setBar(outer, fraction, text);
  return outer;
}

export function setBar(outer, fraction, text = percent(fraction)) {
  const share = Math.min(1, Math.max(0, fraction)) * 100;
  outer.setAttribute("aria-valuenow", Math.round(share));
  outer.setAttribute("aria-valuetext", text);
  outer.firstElementChild.style.width = `${share}%`;
}

