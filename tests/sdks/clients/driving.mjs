// What the drivers in JavaScript have in common; see driving.py, which does the same.
import { createInterface } from "node:readline";

export const TEXT = "Sing";
export const MESSAGES = [{ role: "user", content: TEXT }];
export const TOKENS = 24;
export const MANY_TOKENS = 200;
const WHERE = { error: "RHAPSODE_BROKEN_URL", resume: "RHAPSODE_CUT_URL" };

export async function drive(version, rows) {
  for (const [client, row] of Object.entries(rows)) {
    for (const [situation, steps] of Object.entries(row)) {
      if (situation === "slow") continue;
      const url = process.env[WHERE[situation] ?? "RHAPSODE_URL"];
      tell({ client, version, situation, ...(await outcome(steps, url)) });
    }
  }
  tell({ waits: true });
  const url = await told();
  const slow = Object.entries(rows).filter(([, row]) => row.slow);
  await Promise.all(
    slow.map(async ([client, row]) => tell({ client, version, situation: "slow", ...(await outcome(row.slow, url)) })),
  );
  process.exit(0);
}

export function agree(streamed, whole) {
  if (streamed !== whole) throw new Error(`whole it is ${whole}, streamed ${streamed}`);
}

async function outcome(steps, url) {
  const heard = [];
  let text = "";
  let error = "";
  try {
    for await (const piece of steps(url, heard)) text += piece;
  } catch (thrown) {
    error = `${thrown?.name ?? typeof thrown}: ${thrown?.message ?? JSON.stringify(thrown)}`.slice(0, 500);
  }
  return { text, error, heard };
}

function tell(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

async function told() {
  for await (const line of createInterface({ input: process.stdin })) return line.trim();
}
