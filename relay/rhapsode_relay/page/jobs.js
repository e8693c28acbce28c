// The jobs of this tab: asked, followed, cancelled, and kept so that a reload goes on where it was. `page` calls it.

import { call, Refusal } from "./calling.js";
import { follow, mayHelp, pause } from "./following.js";
import { ACTIVE, apply, newJob, proven, startOver } from "./job.js";
import { tab } from "./remembering.js";

const MOST_AT_ONCE = 3; // A browser opens six connections to a host, and the worker's stream is one.
const MOST_KEPT = 30;
const LONGEST_KEPT = 200_000;
const SAVE_EVERY_MS = 1000;

export class Jobs {
  all = [];
  selected = null;
  #onChange;
  #stops = new Map();
  #unsaved = new Set();

  constructor(onChange) {
    this.#onChange = onChange;
    const kept = tab.get("jobs") ?? { tokens: [], selected: "" };
    this.all = kept.tokens.map((token) => tab.get(`job.${token}`)).filter((job) => job !== null);
    this.selected = this.all.find((job) => job.token === kept.selected) ?? this.all[0] ?? null;
    setInterval(() => this.save(), SAVE_EVERY_MS);
    addEventListener("pagehide", () => this.save());
  }

  /** Goes on with what was under way when the page was left. */
  resume() {
    for (const job of this.active()) this.#run(job);
  }

  active() {
    return this.all.filter((job) => ACTIVE.has(job.state));
  }

  get full() {
    return this.active().length >= MOST_AT_ONCE;
  }

  ask(prompt, maxTokens) {
    const job = newJob(prompt, maxTokens, randomToken(), Date.now());
    this.all.unshift(job);
    for (const old of this.all.splice(MOST_KEPT)) tab.drop(`job.${old.token}`);
    this.select(job);
    this.#run(job);
    return job;
  }

  select(job) {
    this.selected = job;
    this.#changed(job);
  }

  /** Asks the relay to cancel, until it has heard. What never reached it is simply not sent. */
  async cancel(job) {
    if (!ACTIVE.has(job.state) || job.cancelling) return;
    job.cancelling = true;
    this.#changed(job);
    if (!job.id) this.#end(job, "cancelled");
    for (let attempt = 0; job.id && ACTIVE.has(job.state); attempt += 1) {
      try {
        await call(`v1/inference/${job.id}`, { method: "DELETE" });
        return;
      } catch (error) {
        if (!mayHelp(error)) return;
        await pause(attempt);
      }
    }
  }

  clear() {
    for (const job of this.all) if (!ACTIVE.has(job.state)) tab.drop(`job.${job.token}`);
    this.all = this.active();
    this.select(this.all[0] ?? null);
  }

  save() {
    if (this.#unsaved.size === 0) return;
    for (const job of this.#unsaved) if (job && this.all.includes(job)) this.#keep(job);
    this.#unsaved.clear();
    tab.set("jobs", { tokens: this.all.map((job) => job.token), selected: this.selected?.token ?? "" });
  }

  /** A job is kept whole or without what the relay can tell again; the oldest makes room for it. */
  #keep(job) {
    const { cancelling, linked, why, ...kept } = job;
    if (job.text.length > LONGEST_KEPT) startOver(kept);
    const others = this.all.filter((one) => one !== job && !ACTIVE.has(one.state));
    while (!tab.set(`job.${job.token}`, kept) && others.length > 0) {
      const oldest = others.pop();
      tab.drop(`job.${oldest.token}`);
      this.all = this.all.filter((one) => one !== oldest);
    }
  }

  #changed(job) {
    this.#unsaved.add(job);
    this.#onChange(job);
  }

  async #run(job) {
    const stop = new AbortController();
    this.#stops.set(job, stop);
    try {
      if (!job.id) await this.#send(job, stop.signal);
      if (job.id) await this.#follow(job, stop.signal);
    } catch (error) {
      if (!stop.signal.aborted) this.#fail(job, error);
    } finally {
      this.#stops.delete(job);
      if (job.ending && !job.proof) await this.#prove(job);
    }
  }

  async #send(job, signal) {
    const wanted = { messages: [{ role: "user", content: job.prompt }], max_tokens: job.maxTokens, on_disconnect: "grace" };
    const headers = { "Content-Type": "application/json", "Idempotency-Key": job.token };
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      try {
        const answer = await call("v1/inference", { method: "POST", body: JSON.stringify(wanted), headers, signal });
        job.id = (await answer.json()).job_id;
        job.linked = true;
        return this.#changed(job);
      } catch (error) {
        if (error instanceof Refusal || signal.aborted) throw error; // A person decides whether to ask again.
        job.linked = false;
        this.#changed(job);
        await pause(attempt, signal);
      }
    }
  }

  #follow(job, signal) {
    return follow({
      path: `v1/inference/${encodeURIComponent(job.id)}/stream`,
      place: () => job.lastId,
      signal,
      onLink: (linked, why = "") => {
        Object.assign(job, { linked, why });
        this.#changed(job);
      },
      onEvent: (event) => {
        const verdict = apply(job, event);
        if (verdict === "again") startOver(job);
        this.#changed(job);
        return verdict;
      },
    });
  }

  /** Compares the text with the relay's digest of it; one that differs is read once more from the beginning. */
  async #prove(job, again = false) {
    job.proof = (await proven(job)) ? "matches" : "differs";
    if (job.proof === "differs" && !again) {
      startOver(job);
      await this.#follow(job, new AbortController().signal).catch(() => {});
      if (job.ending) return this.#prove(job, true);
    }
    return this.#changed(job);
  }

  #fail(job, error) {
    const gone = error instanceof Refusal && (error.status === 404 || error.status === 410);
    const message = gone ? "The relay no longer has this answer; what had come is above. Ask again." : error.message;
    this.#end(job, "failed", { message, code: error.code ?? "", retryable: error.retryable ?? false });
  }

  #end(job, state, error = null) {
    Object.assign(job, { state, error });
    this.#stops.get(job)?.abort();
    this.#changed(job);
  }
}

/** `crypto.randomUUID` is only there on safe origins, and a relay on one's own network is none. */
function randomToken() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
