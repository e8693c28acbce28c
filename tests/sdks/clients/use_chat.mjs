// Vercel's useChat: its transport, and the chat that the hook wraps, without React around it.
import { readFileSync } from "node:fs";

import { AbstractChat, DefaultChatTransport } from "ai";

import { drive, MANY_TOKENS, TEXT, TOKENS } from "./driving.mjs";

const version = JSON.parse(readFileSync(new URL("../node_modules/ai/package.json", import.meta.url))).version;

class Chat extends AbstractChat {
  constructor(init) {
    super({
      ...init,
      state: {
        messages: init.messages ?? [],
        status: "ready",
        pushMessage(message) { this.messages = [...this.messages, message]; },
        popMessage() { this.messages = this.messages.slice(0, -1); },
        replaceMessage(at, message) { this.messages = this.messages.with(at, message); },
        snapshot: (thing) => structuredClone(thing),
      },
    });
  }
}

const transport = (url, body) => new DefaultChatTransport({ api: `${url}/v1/vercel/chat`, body });
const question = { id: "m1", role: "user", parts: [{ type: "text", text: TEXT }] };
const asked = (chatId) => ({ chatId, messages: [question], trigger: "submit-message" });
const wishes = { max_tokens: TOKENS, seed: 7 };
let chats = 0;
const newId = () => `chat-${process.pid}-${++chats}`;

async function* stream(url, heard) {
  for await (const part of await transport(url, wishes).sendMessages(asked(newId()))) {
    if (part.type === "data-narration") heard.push(part.data.human);
    if (part.type === "error") throw new Error(part.errorText);
    if (part.type === "text-delta") yield part.delta;
  }
}

async function* finished(chat) {
  yield textOf(chat);
  if (chat.error) throw chat.error;
}

function textOf(chat) {
  return chat.messages.at(-1).parts.filter((part) => part.type === "text").map((part) => part.text).join("");
}

function listening(heard) {
  return ({ type, data }) => type === "data-narration" && heard.push(data.human);
}

async function* helper(url, heard) {
  const chat = new Chat({ id: newId(), transport: transport(url, wishes), onData: listening(heard) });
  await chat.sendMessage({ text: TEXT });
  yield* finished(chat);
}

async function* resumed(url, heard) {
  const id = newId();
  const leaving = new AbortController();
  const parts = await transport(url, { max_tokens: MANY_TOKENS, seed: 7 }).sendMessages({
    ...asked(id), abortSignal: leaving.signal,
  });
  for await (const part of parts) if (part.type === "text-delta") break;
  leaving.abort();
  const chat = new Chat({ id, messages: [question], transport: transport(url), onData: listening(heard) });
  await chat.resumeStream();
  yield* finished(chat);
}

await drive(version, {
  "Vercel AI SDK, useChat": {
    plain: stream, helper, narration: stream, "narrated helper": helper, slow: helper, error: helper, resume: resumed,
  },
});
