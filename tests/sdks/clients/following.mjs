// Follow a job as a page does: begin it with fetch, then listen with an EventSource that reconnects by itself.
// Run by eventsource.mjs in Node, and in a page by chromium.py.
export async function follow(url, tokens, EventSource) {
  const heard = [];
  let text = "";
  const body = JSON.stringify({ messages: [{ role: "user", content: "Sing" }], max_tokens: tokens });
  const job = await (await fetch(`${url}/v1/inference`, { method: "POST", body })).json();
  const source = new EventSource(`${url}/v1/inference/${job.job_id}/stream`);
  const error = await new Promise((resolve) => {
    source.addEventListener("token", (event) => (text += JSON.parse(event.data).t));
    source.addEventListener("narration", (event) => heard.push(JSON.parse(event.data).human));
    source.addEventListener("error", (event) => event.data && resolve(JSON.parse(event.data).error.message));
    source.addEventListener("done", () => resolve(""));
  });
  source.close();
  return { text, error, heard };
}
