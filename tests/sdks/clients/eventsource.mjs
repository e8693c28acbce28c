// The package `eventsource` for Node on the native stream.
import { readFileSync } from "node:fs";

import { EventSource } from "eventsource";

import { drive, MANY_TOKENS, TOKENS } from "./driving.mjs";
import { follow } from "./following.mjs";

const version = JSON.parse(readFileSync(new URL("../node_modules/eventsource/package.json", import.meta.url))).version;

const ask = (tokens) =>
  async function* (url, heard) {
    const told = await follow(url, tokens, EventSource);
    heard.push(...told.heard);
    yield told.text;
    if (told.error) throw new Error(told.error);
  };

// Since 5 its timer for coming back keeps no process alive: one that has nothing else to do would end before.
setInterval(() => {}, 1000);

await drive(version, {
  "eventsource (Node), native": {
    plain: ask(TOKENS), narration: ask(TOKENS), slow: ask(TOKENS), error: ask(TOKENS), resume: ask(MANY_TOKENS),
  },
});
