// One question and what became of it: how each event of its stream changes it. Pure; `jobs` calls it.

const MOST_TOLD = 400;
const ROLLING = new Set(["tokens", "queued", "still", "image_still_pulling"]);

export const ACTIVE = new Set(["sending", "queued", "running"]);

/** Returns a job that has not been sent. `token` lets it be sent twice without being asked twice. */
export function newJob(prompt, maxTokens, token, at) {
  return {
    token, prompt, maxTokens, at, id: "", state: "sending", text: "", tokens: 0, lastId: "", told: [], position: null,
    figures: null, ending: null, error: null, proof: "", linked: true,
  };
}

/** Forgets what was read, so that the relay's next answer is all of it. */
export function startOver(job) {
  Object.assign(job, { text: "", tokens: 0, lastId: "", told: [], ending: null, error: null, proof: "" });
}

/** Applies an event. Returns "stop" after the last one, and "again" when tokens are missing. */
export function apply(job, { id, event, data }) {
  const verdict = FOLDS[event]?.(job, data);
  if (verdict !== "again" && id) job.lastId = id;
  return verdict;
}

const FOLDS = {
  queued(job, { position }) {
    if (ACTIVE.has(job.state)) Object.assign(job, { state: "queued", position });
  },
  started(job) {
    if (ACTIVE.has(job.state)) Object.assign(job, { state: "running", position: null });
  },
  token(job, { t, i, count = 1 }) {
    if (i + count <= job.tokens) return undefined; // We have it.
    if (i !== job.tokens) return "again";
    job.text += t;
    job.tokens += count;
    return undefined;
  },
  snapshot(job, { status, text, tokens, narration = [] }) {
    Object.assign(job, { text, tokens });
    if (ACTIVE.has(status)) job.state = status;
    const known = new Set(job.told.map((one) => one.ts + one.human));
    for (const one of narration) if (!known.has(one.ts + one.human)) job.told = told(job.told, one);
  },
  narration(job, data) {
    job.told = told(job.told, data);
  },
  metrics(job, { tokens_out, queue_ms, ttft_ms, tok_s }) {
    job.figures = { tokens_out, queue_ms, ttft_ms, tok_s };
  },
  end(job, { stop_reason, usage, timing, text_len, text_sha256 }) {
    job.ending = { stop_reason, usage, timing, text_len, text_sha256 };
    job.state = stop_reason === "cancelled" ? "cancelled" : "completed";
  },
  error(job, { error, retryable }) {
    job.error = { message: error.message, code: error.code, retryable };
    job.state = error.code === "cancelled" ? "cancelled" : "failed";
  },
  done() {
    return "stop";
  },
};

/** Returns a story with one more sentence. What goes on with the same thing takes the place of what was said of it. */
export function told(story, { human, cute, story: tale, action, actor, level, progress, ts, dropped }) {
  const one = { human, cute, story: tale, action, actor, level, progress, ts, dropped };
  const last = story.at(-1);
  const moves = ROLLING.has(action) || (last?.progress < 1 && progress >= last.progress);
  if (moves && last?.action === action) return [...story.slice(0, -1), one];
  return [...story, one].slice(-MOST_TOLD);
}

/** Returns whether a text is what the relay says that it sent: by its digest, or where a page may not make one, its length. */
export async function proven(job) {
  const { text_len, text_sha256 } = job.ending;
  if ([...job.text].length !== text_len) return false;
  if (!globalThis.crypto?.subtle) return true;
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(job.text));
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("") === text_sha256;
}
