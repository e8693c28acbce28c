// Calls of the relay, below whatever path the page itself is under. A key travels in a header, never in an address.

import { tab } from "./remembering.js";

const BASE = new URL("../", import.meta.url);

/** The relay's answer was an error; `message` is for people. */
export class Refusal extends Error {
  constructor(status, error, retryable, waitMs) {
    super(error.message || `the relay answered ${status}`);
    this.status = status;
    this.code = error.code || "";
    this.retryable = retryable;
    this.waitMs = waitMs;
  }
}

/** The key that is shown, and who waits for another one. */
export const keys = {
  current: tab.get("key") || "",
  /** Called with whether a key was refused, when one is wanted. */
  onWanted: () => {},
  waiting: new Set(),

  give(key) {
    this.current = key;
    if (key) tab.set("key", key);
    else tab.drop("key");
    for (const go of [...this.waiting]) go();
  },

  /** Waits until there is another key than the one that was refused. */
  async another(refused, signal) {
    while (this.current === refused) {
      signal?.throwIfAborted();
      this.onWanted(refused !== "");
      await new Promise((resolve) => {
        const go = () => {
          this.waiting.delete(go);
          signal?.removeEventListener("abort", go);
          resolve();
        };
        this.waiting.add(go);
        signal?.addEventListener("abort", go);
      });
    }
  },
};

/** Returns the answer. Throws a Refusal, or a TypeError when nobody answers; waits for a key where one is wanted. */
export async function call(path, { method = "GET", body, headers = {}, signal } = {}) {
  for (;;) {
    const shown = keys.current;
    const all = shown ? { ...headers, Authorization: `Bearer ${shown}` } : headers;
    const answer = await fetch(new URL(path, BASE), { method, body, headers: all, signal, cache: "no-store" });
    if (answer.ok) return answer;
    if (answer.status !== 401) throw await refusalOf(answer);
    await answer.body?.cancel();
    await keys.another(shown, signal);
  }
}

async function refusalOf(answer) {
  const body = await answer.json().catch(() => ({}));
  const wait = Number(answer.headers.get("Retry-After")) * 1000 || 0;
  const retryable = body.retryable ?? (answer.status >= 500 || answer.status === 429);
  return new Refusal(answer.status, body.error ?? {}, retryable, wait);
}
