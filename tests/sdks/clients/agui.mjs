// AG-UI's HttpAgent.
import { readFileSync } from "node:fs";

import { HttpAgent } from "@ag-ui/client";

import { drive, TEXT, TOKENS } from "./driving.mjs";

const version = JSON.parse(readFileSync(new URL("../node_modules/@ag-ui/client/package.json", import.meta.url))).version;
const messages = [{ id: "m1", role: "user", content: TEXT }];
const wishes = { max_tokens: TOKENS, seed: 7 };
let runs = 0;

function agent(url) {
  return new HttpAgent({ url: `${url}/v1/agui`, threadId: `thread-${process.pid}-${++runs}`, initialMessages: messages });
}

async function* plain(url, heard) {
  const events = [];
  const asking = agent(url);
  const input = { threadId: asking.threadId, runId: `run-${runs}`, messages, tools: [], context: [], state: {}, forwardedProps: wishes };
  await new Promise((resolve, reject) => {
    asking.run(input).subscribe({ next: (event) => events.push(event), error: reject, complete: resolve });
  });
  for (const event of events) {
    if (event.type === "CUSTOM" && event.name === "narration") heard.push(event.value.human);
    if (event.type === "TEXT_MESSAGE_CONTENT") yield event.delta;
    if (event.type === "RUN_ERROR") throw new Error(event.message);
  }
}

async function* helper(url, heard) {
  const asking = agent(url);
  let failed;
  const subscriber = {
    onCustomEvent: ({ event }) => void (event.name === "narration" && heard.push(event.value.human)),
    onRunErrorEvent: ({ event }) => void (failed = event.message),
  };
  await asking.runAgent({ runId: `run-${runs}`, forwardedProps: wishes }, subscriber);
  yield asking.messages.at(-1).content;
  if (failed) throw new Error(failed);
}

await drive(version, {
  "AG-UI client": { plain, helper, narration: plain, "narrated helper": helper, slow: helper, error: helper },
});
