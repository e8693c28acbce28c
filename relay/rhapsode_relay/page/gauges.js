// The card of the worker: its state with its remedy, loading, memory and load, as bars with words. `page` calls it.

import { bar, setBar } from "./story.js";
import { count, el, gib, percent, plain, say, span } from "./writing.js";

const PHASES = {
  starting: "Starting", loading: "Loading", ready: "Ready", draining: "Draining", failed: "Failed", lost: "Gone",
};
const PLAIN_PHASES = {
  starting: "The worker has not come yet. A question asked now waits for it.",
  loading: "A question asked now is held, and answered when the model is loaded.",
  draining: "It finishes what it has and takes nothing new.",
  lost: "The worker process is gone. A question asked now waits until it is back.",
};
const NO_VRAM = {
  none: ["no GPU", "It computes on the CPU, or the GPU's driver does not answer."],
  unsupported: ["not measured", "The GPU's driver does not tell how much memory is in use."],
};

/** Returns in a word how the worker is, as far as the page can know. */
export function phaseOf(watch) {
  if (watch.linked === false) return "Out of reach";
  return watch.state ? PHASES[watch.state.phase] ?? plain(watch.state.phase) : "Connecting";
}

export class Gauges {
  #parts;
  #rows = new Map();

  constructor(parts) {
    this.#parts = parts;
  }

  show(watch) {
    const { name, phase, message, reason } = this.#parts;
    say(phase, phaseOf(watch));
    phase.dataset.phase = watch.linked === false ? "unreached" : watch.state?.phase ?? "";
    const state = watch.state;
    if (!state) return;
    say(name, [state.worker_id, state.model, state.engine].map(plain).filter(Boolean).join(" · "));
    say(message, plain(state.message) || PLAIN_PHASES[state.phase] || "");
    message.hidden = message.textContent === "";
    say(reason, plain(state.reason));
    reason.hidden = reason.textContent === "";
    const rows = [...loadRows(state), ...busyRows(state), ...vramRows(state)];
    this.#draw(rows);
  }

  /** Each row is kept as long as it is told, so that a bar moves and a screen reader does not lose its place. */
  #draw(rows) {
    const { list } = this.#parts;
    for (const [label, row] of this.#rows) {
      if (!rows.some((one) => one.label === label)) {
        row.item.remove();
        this.#rows.delete(label);
      }
    }
    rows.forEach((row, at) => {
      const known = this.#rows.get(row.label) ?? this.#add(row);
      say(known.text, row.text);
      say(known.more, row.more ?? "");
      known.bar.hidden = row.fraction === null;
      known.item.classList.toggle("trouble", Boolean(row.trouble));
      if (row.fraction !== null) setBar(known.bar, row.fraction, row.text);
      if (list.children[at] !== known.item) list.insertBefore(known.item, list.children[at] ?? null);
    });
  }

  #add({ label, role }) {
    const [text, more] = [el("span", { class: "value" }), el("p", { class: "more" })];
    const measure = bar(0, label, "", role ?? "meter");
    const head = el("div", { class: "head" }, el("span", { class: "label" }, label), text);
    const row = { item: el("li", { class: "gauge" }, head, measure, more), text, more, bar: measure };
    this.#rows.set(label, row);
    return row;
  }
}

function loadRows({ load, phase }) {
  if (!load || phase === "ready") return [];
  const { stage, percent: done = null, ready_in_s, eta_s } = load;
  const left = ready_in_s ?? eta_s;
  const more = left === undefined ? "" : `${ready_in_s === undefined ? "This stage" : "Ready"} in about ${span(left)}`;
  const text = done === null ? plain(stage) : `${plain(stage)}, ${Math.round(done)} %`;
  return [{ label: "Loading", role: "progressbar", text, fraction: done === null ? null : done / 100, more }];
}

function busyRows({ running, queued, caps, kv_used, kv_total }) {
  const slots = caps?.slots ?? 0;
  const text = slots ? `${running} of ${count(slots, "request")}` : count(running, "request");
  const more = queued ? `${queued} waiting in line` : "";
  const rows = [{ label: "Load", text, more, fraction: slots ? running / slots : null }];
  if (kv_total) {
    const share = kv_used / kv_total;
    rows.push({ label: "KV cache", text: percent(share), fraction: share, more: `${kv_used} of ${count(kv_total, "block")}` });
  }
  return rows;
}

function vramRows({ vram }) {
  if (!vram) return [{ label: "VRAM", text: "not told yet", fraction: null }];
  if (vram.source !== "nvml") return [{ label: "VRAM", text: NO_VRAM[vram.source]?.[0] ?? "unknown", fraction: null, more: NO_VRAM[vram.source]?.[1] ?? "" }];
  return (vram.gpus ?? []).map((gpu, at) => gpuRow(gpu, at, vram.gpus.length));
}

function gpuRow(gpu, at, among) {
  const { total_bytes: total, used_bytes: used, healthy = true } = gpu;
  const facts = [
    plain(gpu.name) + (gpu.mig ? " (MIG)" : ""),
    gpu.utilization === undefined ? "" : `${percent(gpu.utilization)} busy`,
    gpu.temperature_c === undefined ? "" : `${gpu.temperature_c} °C`,
    gpu.power_w === undefined ? "" : `${Math.round(gpu.power_w)} W`,
    ...(gpu.throttle ?? []).map((why) => `slowed by ${plain(why).replaceAll("_", " ")}`),
    gpu.xid ? `XID ${gpu.xid}` : "",
    healthy ? "" : `out of reach: ${plain(gpu.trouble)}; sizes are the last that were measured`,
  ];
  return {
    label: among > 1 ? `VRAM, GPU ${at}` : "VRAM",
    text: `${gib(used)} of ${gib(total)} GiB`,
    fraction: total ? used / total : null,
    more: facts.filter(Boolean).join(" · "),
    trouble: !healthy,
  };
}
