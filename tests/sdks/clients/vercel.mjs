// Vercel's AI SDK: its two providers of OpenAI's protocols.
import { readFileSync } from "node:fs";

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

import { drive, TEXT, TOKENS } from "./driving.mjs";

const version = JSON.parse(readFileSync(new URL("../node_modules/ai/package.json", import.meta.url))).version;

function compatible(url, headers) {
  return createOpenAICompatible({ name: "rhapsode", baseURL: `${url}/v1`, headers })("sim");
}

function responses(url, fetch) {
  return createOpenAI({ baseURL: `${url}/v1`, apiKey: "none", fetch }).responses("sim");
}

// The provider sends no fields of ours, so they are put in on the way.
function narrated(address, init) {
  return fetch(address, { ...init, body: JSON.stringify({ ...JSON.parse(init.body), narration: "event" }) });
}

const stream = (model, how) =>
  async function* (url, heard) {
    const wishes = { prompt: TEXT, maxOutputTokens: TOKENS, maxRetries: 0, includeRawChunks: true, onError() {} };
    for await (const part of streamText({ model: model(url, how), ...wishes }).fullStream) {
      const told = part.type === "raw" && (part.rawValue?.narration ?? part.rawValue);
      if (told?.human) heard.push(told.human);
      if (part.type === "error") throw part.error instanceof Error ? part.error : new Error(messageOf(part.error));
      if (part.type === "text-delta") yield part.text;
    }
  };

function messageOf(error) {
  return typeof error === "string" ? error : (error?.message ?? JSON.stringify(error));
}

const generate = (model) =>
  async function* (url) {
    yield (await generateText({ model: model(url), prompt: TEXT, maxOutputTokens: TOKENS, maxRetries: 0 })).text;
  };

await drive(version, {
  "Vercel AI SDK, openai-compatible": {
    plain: stream(compatible),
    helper: generate(compatible),
    narration: stream(compatible, { "X-Narration": "chunk" }),
    slow: stream(compatible),
    error: stream(compatible),
  },
  "Vercel AI SDK, openai (Responses)": {
    plain: stream(responses),
    helper: generate(responses),
    narration: stream(responses, narrated),
    slow: stream(responses),
    error: stream(responses),
  },
});
