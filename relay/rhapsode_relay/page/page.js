// Wires the page: what comes changes the jobs and the worker, and the next frame shows them. Nothing else is global.

import { AnswerPanel } from "./answer.js";
import { Announcer } from "./announcing.js";
import { AskBox } from "./asking.js";
import { tryNow } from "./following.js";
import { Gauges } from "./gauges.js";
import { HistoryList } from "./history.js";
import { ACTIVE } from "./job.js";
import { Jobs } from "./jobs.js";
import { askForKeys } from "./key_dialog.js";
import { choices } from "./remembering.js";
import { StoryPanel, STYLES } from "./story.js";
import { WorkerWatch } from "./worker.js";
import { plain, say } from "./writing.js";

const $ = (id) => document.getElementById(id);
const parts = (...ids) => Object.fromEntries(ids.map(([name, id]) => [name, $(id)]));

let due = false;
let seen = "";
function refresh() {
  if (!due) requestAnimationFrame(draw);
  due = true;
}

const jobs = new Jobs(refresh);
const watch = new WorkerWatch(refresh);
const ask = new AskBox(parts(["form", "ask"], ["prompt", "prompt"], ["most", "most"], ["send", "send"], ["cancel", "cancel"], ["hint", "hint"]), jobs);
const story = new StoryPanel($("story"), $("story-empty"));
const answer = new AnswerPanel(parts(
  ["section", "answer"], ["empty", "answer-empty"], ["question", "question"], ["scroller", "scroller"], ["text", "text"],
  ["state", "job-state"], ["trouble", "trouble"], ["figures", "figures"], ["proof", "proof"], ["again", "again"], ["copy", "copy"],
));
const gauges = new Gauges(parts(["name", "worker-name"], ["phase", "phase"], ["message", "message"], ["reason", "reason"], ["list", "gauges"]));
const history = new HistoryList(parts(["list", "history"], ["empty", "history-empty"], ["clear", "clear"]), (job) => {
  choose("view", "question");
  jobs.select(job);
});
const announcer = new Announcer($("announcer"));

function chosen(name) {
  return document.querySelector(`input[name=${name}]:checked`)?.value;
}

function choose(name, value) {
  const input = document.querySelector(`input[name=${name}][value=${value}]`);
  if (input) input.checked = true;
}

function draw() {
  due = false;
  const job = jobs.selected;
  const states = jobs.all.map((one) => one.state).join();
  if (states !== seen) watch.lookSoon();
  seen = states;
  const style = chosen("style");
  const worker = chosen("view") === "worker" || job === null;
  $("view").hidden = job === null;
  story.show(worker ? watch.story : job.told, style, worker ? null : Date.parse(job.told[0]?.ts) || 0);
  answer.show(job);
  gauges.show(watch);
  history.show(jobs);
  ask.show(watch);
  link(job);
  announcer.hear(job, watch, style);
  document.title = `${watch.state?.model ? `${watch.state.model} · ` : ""}Rhapsode`;
}

function link(job) {
  const lost = [watch, job].find((one) => one?.linked === false && (one === watch || ACTIVE.has(job.state)));
  $("link").hidden = !lost;
  if (lost) say($("link-why"), lost.why ? `The relay says: ${plain(lost.why)}. Trying again.` : "The relay is out of reach. Trying again.");
}

function listen() {
  for (const input of document.querySelectorAll("input[name=style]")) {
    input.addEventListener("change", () => {
      choices.set("style", input.value);
      refresh();
    });
  }
  for (const input of document.querySelectorAll("input[name=view]")) input.addEventListener("change", refresh);
  $("try").addEventListener("click", tryNow);
  $("clear").addEventListener("click", () => {
    jobs.clear();
    $("prompt").focus();
  });
  $("ask").addEventListener("submit", () => choose("view", "question"));
  $("again").addEventListener("click", () => {
    if (!jobs.full) jobs.ask(jobs.selected.prompt, jobs.selected.maxTokens);
    $("prompt").focus();
  });
  $("copy").addEventListener("click", () => navigator.clipboard.writeText(jobs.selected.text));
  $("theme").addEventListener("click", turn);
}

/** Light, dark, or what the system says: each press of the button goes to the other of what is seen. */
function turn() {
  const root = document.documentElement;
  const seen = root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.dataset.theme = seen === "dark" ? "light" : "dark";
  choices.set("theme", root.dataset.theme);
}

function begin() {
  const style = choices.get("style");
  choose("style", STYLES.includes(style) ? style : "human");
  askForKeys(parts(
    ["dialog", "key-dialog"], ["form", "key-form"], ["input", "key"], ["why", "key-why"], ["later", "key-later"],
    ["banner", "key-banner"], ["open", "key-open"], ["forget", "key-forget"],
  ));
  listen();
  watch.start();
  jobs.resume();
  refresh();
}

begin();
