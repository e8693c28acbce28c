// openai-node, chat and Responses.
import OpenAI from "openai";
import { VERSION } from "openai/version";

import { agree, drive, MANY_TOKENS, MESSAGES, TEXT, TOKENS } from "./driving.mjs";

const CHAT = { model: "sim", messages: MESSAGES, max_tokens: TOKENS, seed: 7 };
const RESPONSE = { model: "sim", input: TEXT, max_output_tokens: TOKENS };

function client(url) {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0, timeout: 90_000 });
}

const chat = (more = {}) =>
  async function* (url, heard) {
    const stream = await client(url).chat.completions.create({ ...CHAT, ...more, stream: true });
    for await (const chunk of stream) {
      if (chunk.narration) heard.push(chunk.narration.human);
      yield chunk.choices[0].delta.content ?? "";
    }
  };

const both = (streamed, whole) =>
  async function* (url, heard) {
    let text = "";
    for await (const piece of streamed(url, heard)) text += piece;
    agree(text, await whole(client(url)));
    yield text;
  };

const chatHelper = (more = {}) =>
  async function* (url, heard) {
    const completions = client(url).chat.completions;
    const stream = (completions.stream ? completions : client(url).beta.chat.completions).stream({ ...CHAT, ...more });
    for await (const chunk of stream) {
      if (chunk.narration) heard.push(chunk.narration.human);
      yield chunk.choices[0].delta.content ?? "";
    }
    await stream.finalChatCompletion();
  };

async function* texts(stream, heard) {
  for await (const event of stream) {
    if (event.type === "relay.narration") heard.push((event.narration ?? event).human);
    if (event.type === "response.failed") throw new Error(`${event.type}: ${event.response.error.message}`);
    if (event.type === "response.output_text.delta") yield event.delta;
  }
}

const response = (more = {}) =>
  async function* (url, heard) {
    yield* texts(await client(url).responses.create({ ...RESPONSE, ...more, stream: true }), heard);
  };

const responseHelper = (more = {}) =>
  async function* (url, heard) {
    const stream = client(url).responses.stream({ ...RESPONSE, ...more });
    yield* texts(stream, heard);
    await stream.finalResponse();
  };

async function* resumed(url, heard) {
  const wishes = { ...RESPONSE, max_output_tokens: MANY_TOKENS, stream: true, background: true };
  let id, last;
  let deltas = 0;
  for await (const event of await client(url).responses.create(wishes)) {
    id ??= event.response?.id;
    last = event.sequence_number;
    if (event.type !== "response.output_text.delta") continue;
    yield event.delta;
    if (++deltas === 3) break;
  }
  yield* texts(await client(url).responses.retrieve(id, { stream: true, starting_after: last }), heard);
}

await drive(VERSION, {
  "openai-node, chat": {
    plain: both(chat(), async (sdk) => (await sdk.chat.completions.create(CHAT)).choices[0].message.content),
    helper: chatHelper(),
    narration: chat({ narration: "chunk" }),
    "narrated helper": chatHelper({ narration: "chunk" }),
    slow: chat(),
    error: chat(),
  },
  "openai-node, Responses": {
    plain: both(response(), async (sdk) => (await sdk.responses.create(RESPONSE)).output_text),
    helper: responseHelper(),
    narration: response({ narration: "event" }),
    "narrated helper": responseHelper({ narration: "event" }),
    slow: response(),
    error: response(),
    resume: resumed,
  },
});
