// Reads a stream until it is done, and comes back with the last id whenever the connection breaks. Calls `calling`.

import { call, Refusal } from "./calling.js";
import { EventParser } from "./parsing.js";

const SILENCE_MS = 75_000; // The relay's heartbeat comes at least once a minute.
const WAITS_MS = [400, 1000, 2000, 4000, 8000];

const sleepers = new Set();

/** Lets whoever waits to try again do it now. */
export function tryNow() {
  for (const wake of [...sleepers]) wake();
}
addEventListener("online", tryNow);

/** Waits, or less when it makes sense to try now. Jitter keeps tabs from coming all at once. */
export function pause(attempt, signal, atLeastMs = 0) {
  const usual = WAITS_MS[Math.min(attempt, WAITS_MS.length - 1)] * (0.75 + Math.random() / 2);
  return new Promise((resolve) => {
    const wake = () => {
      clearTimeout(timer);
      sleepers.delete(wake);
      signal?.removeEventListener("abort", wake);
      resolve();
    };
    const timer = setTimeout(wake, Math.max(usual, atLeastMs));
    sleepers.add(wake);
    signal?.addEventListener("abort", wake);
  });
}

/** Returns whether another try may help. */
export function mayHelp(error) {
  return error instanceof Refusal ? error.retryable : true;
}

/**
 * Gives each event of a stream to `onEvent`, which returns "stop" at the last one, or "again" when it cannot use what
 * came. `place` tells the last id, `onLink` hears whether there is a connection, and what the relay says when it refuses one. Throws what no other try would help.
 */
export async function follow({ path, place, onEvent, onLink, signal }) {
  let attempt = 0;
  const take = (event) => {
    const verdict = onEvent(event);
    if (verdict !== "again") attempt = 0;
    return verdict;
  };
  while (!signal.aborted) {
    let wait = 0;
    let why = "";
    try {
      if ((await readOnce(path, place(), take, onLink, signal)) === "stop") return;
    } catch (error) {
      if (signal.aborted) return;
      if (!mayHelp(error)) throw error;
      wait = error.waitMs ?? 0;
      why = error instanceof Refusal ? error.message : "";
    }
    if (signal.aborted) return;
    onLink(false, why);
    await pause(attempt, signal, wait);
    attempt += 1;
  }
}

async function readOnce(path, lastId, onEvent, onLink, signal) {
  const watchdog = new AbortController();
  const headers = { Accept: "text/event-stream", ...(lastId ? { "Last-Event-ID": lastId } : {}) };
  const answer = await call(path, { headers, signal: AbortSignal.any([signal, watchdog.signal]) });
  onLink(true);
  if (answer.status === 204) return "stop"; // We have everything.
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    return await drain(reader, onEvent, watchdog);
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function drain(reader, onEvent, watchdog) {
  const parser = new EventParser();
  for (;;) {
    const silence = setTimeout(() => watchdog.abort(), SILENCE_MS);
    const { value, done } = await reader.read().finally(() => clearTimeout(silence));
    if (done) return "broken";
    for (const event of parser.push(value)) {
      const verdict = onEvent(event);
      if (verdict) return verdict;
    }
  }
}
