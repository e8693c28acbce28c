// The worker as its stream tells it, and how busy it is, which only `GET /v1/worker` tells. `page` calls it.

import { call } from "./calling.js";
import { follow } from "./following.js";
import { told } from "./job.js";

const LOOK_EVERY_MS = 2000;

export class WorkerWatch {
  state = null;
  story = [];
  linked = null;
  why = "";
  #onChange;
  #lastId = "";
  #seen = 0;
  #watching = null;
  #wake = () => {};

  constructor(onChange) {
    this.#onChange = onChange;
  }

  /** Watches while the page is seen: a hidden tab leaves its connection to others. */
  start() {
    const look = () => (document.hidden ? this.#stop() : this.#watch());
    document.addEventListener("visibilitychange", look);
    look();
  }

  lookSoon() {
    this.#wake();
  }

  #stop() {
    this.#watching?.abort();
    this.#watching = null;
  }

  #watch() {
    if (this.#watching) return;
    const { signal } = (this.#watching = new AbortController());
    this.#follow(signal);
    this.#look(signal);
  }

  async #follow(signal) {
    const onLink = (linked, why = "") => {
      Object.assign(this, { linked, why });
      this.#onChange();
    };
    const onEvent = (event) => this.#apply(event);
    const path = "v1/worker/stream";
    await follow({ path, place: () => this.#lastId, onEvent, onLink, signal }).catch(() => onLink(false));
  }

  /** Looks how busy it is, now and then, or at once after `lookSoon`. */
  async #look(signal) {
    while (!signal.aborted) {
      await new Promise((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, LOOK_EVERY_MS);
      });
      if (!this.linked || signal.aborted) continue;
      const now = await call("v1/worker", { signal }).then((answer) => answer.json()).catch(() => null);
      if (now && !signal.aborted) this.#enter(now);
    }
  }

  #enter(now) {
    if (this.state && this.state.epoch !== now.epoch) {
      this.story = [];
      this.#seen = 0;
    }
    this.state = now;
    this.#onChange();
  }

  #apply({ id, event, data }) {
    if (event === "worker") this.#enter(data);
    else if (data.seq > this.#seen) {
      this.#seen = data.seq;
      this.#fold(event, data);
    }
    if (id) this.#lastId = id;
    this.#onChange();
  }

  #fold(event, data) {
    if (event === "narration") this.story = told(this.story, data);
    if (event === "load") this.state = { ...this.state, load: data };
    if (event === "vram") this.state = { ...this.state, vram: data };
    if (event === "state") {
      const { phase, reason = "", message = "" } = data;
      this.state = { ...this.state, phase, reason, message, ...(phase === "ready" ? { load: undefined } : {}) };
    }
  }
}
