// All calls through a TypeScript SDK: list the tools, run, wait, read pages, stop, and a refusal.
// node loop.mjs SDK SERVER TOOLS: "v1" uses protocol 2025-11-25, "v2" negotiates 2026-07-28; SERVER is a JSON file with command, args
// and env; TOOLS is a JSON file with the expected tools. It never uses a network.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const [sdk, serverFile, toolsFile] = process.argv.slice(2);
const server = JSON.parse(readFileSync(serverFile, "utf8"));
const expectedTools = JSON.parse(readFileSync(toolsFile, "utf8")).map((tool) => tool.name);
const ABOUT = { name: "massgen-mcp-clients", version: "1" };
// Far above the server's longest wait of 50 s, for machines under load.
const OPTIONS = { timeout: 240_000, onprogress: () => {} };

async function connected() {
  if (sdk === "v1") {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const { StdioClientTransport } = await import("@modelcontextprotocol/sdk/client/stdio.js");
    const client = new Client(ABOUT);
    await client.connect(new StdioClientTransport(server), OPTIONS);
    return { client, ask: (call) => client.callTool(call, undefined, OPTIONS) };
  }
  assert.equal(sdk, "v2");
  const { Client } = await import("@modelcontextprotocol/client");
  const { StdioClientTransport } = await import("@modelcontextprotocol/client/stdio");
  const client = new Client(ABOUT, { versionNegotiation: { mode: "auto" } });
  await client.connect(new StdioClientTransport(server), OPTIONS);
  assert.equal(client.getNegotiatedProtocolVersion(), "2026-07-28");
  return { client, ask: (call) => client.callTool(call, OPTIONS) };
}

const { client, ask } = await connected();

/** A call that must succeed. Its text and its structured content must be equal. */
async function call(name, args) {
  const answer = await ask({ name, arguments: args });
  const text = answer.content[0].text;
  assert.ok(!answer.isError, `${name}: ${text}`);
  assert.deepEqual(JSON.parse(text), answer.structuredContent);
  return answer.structuredContent;
}

/** Waits like an agent, with the last cursor, until `isWanted` accepts the run. */
async function until(runId, since, isWanted) {
  for (;;) {
    const status = await call("check_status", { run_id: runId, wait_s: 45, since });
    const run = status.runs[0];
    if (isWanted(run)) return run;
    assert.ok(["queued", "starting", "running", "stopping"].includes(run.state), JSON.stringify(run));
    since = status.cursor;
  }
}

async function readAnswer(runId) {
  let text = "";
  let page = { next_offset: 0 };
  while (page.next_offset !== undefined) {
    page = await call("read_result", { run_id: runId, offset: page.next_offset, limit: 500 });
    text += page.text;
  }
  assert.equal([...text].length, page.total_chars);
  assert.equal(createHash("sha256").update(text).digest("hex"), page.sha256);
  return text;
}

try {
  const listed = (await client.listTools()).tools.map((tool) => tool.name);
  assert.deepEqual(listed.sort(), expectedTools.sort());

  const run = await call("run_massgen", { question: "What is 6*7?", massgen_config: "@rehearsal/chars=1200" });
  const ended = await until(run.run_id, run.cursor, (run) => run.state === "succeeded");
  assert.equal(ended.answer_chars, 1200);
  assert.equal((await readAnswer(run.run_id)).length, 1200);

  const endless = await call("run_massgen", { question: "Never answered.", massgen_config: "@rehearsal/hang" });
  await until(endless.run_id, endless.cursor, (run) => run.state === "running");
  const killed = await call("kill_run", { run_id: endless.run_id, grace_s: 1, reason: "enough seen" });
  const { state, survivors } = killed.receipts[0];
  assert.deepEqual({ state, survivors }, { state: "killed", survivors: [] });

  const refused = await ask({ name: "read_result", arguments: { run_id: "mg-00000000" } });
  assert.ok(refused.isError);
  assert.match(refused.content[0].text, /^unknown_run: /);
} finally {
  await client.close();
}
