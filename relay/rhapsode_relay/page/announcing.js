// What a screen reader is told by itself: what changes for the person, at most every few seconds. `page` calls it.

import { stateOf } from "./answer.js";
import { ACTIVE } from "./job.js";
import { phaseOf } from "./gauges.js";
import { voiced } from "./story.js";
import { count } from "./writing.js";

const EVERY_MS = 4000;

export class Announcer {
  #region;
  #next = "";
  #timer = null;
  #told = null;
  #job = null;
  #state = "";
  #phase = "";

  constructor(region) {
    this.#region = region;
  }

  /** Tokens are not read out one by one: narration is, the newest sentence of each few seconds, and the end. */
  hear(job, watch, style) {
    const phase = phaseOf(watch);
    if (this.#phase && phase !== this.#phase) this.#tell(`Worker: ${phase}.`);
    this.#phase = phase;
    if (!job) return;
    const last = job.told.at(-1);
    const changed = job === this.#job && job.state !== this.#state;
    if (job === this.#job && ACTIVE.has(job.state) && last && last !== this.#told) this.#tell(voiced(last, style));
    if (changed && !ACTIVE.has(job.state)) this.#tell(`${stateOf(job)}. ${count(job.tokens, "token")}. ${job.error?.message ?? ""}`);
    this.#job = job;
    this.#state = job.state;
    this.#told = last;
  }

  #tell(text) {
    this.#next = text;
    if (this.#timer === null) this.#speak();
  }

  #speak() {
    this.#timer = null;
    if (!this.#next) return;
    this.#region.textContent = this.#next;
    this.#next = "";
    this.#timer = setTimeout(() => this.#speak(), EVERY_MS);
  }
}
