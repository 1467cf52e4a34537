// How a client starts an unpacked bundle, by the bundle format's own library: node bundle.mjs FOLDER SETTINGS prints command, args
// and env as JSON. SETTINGS is what a person gave, as JSON; what was not given stays as its placeholder, as in real clients.
import { readFileSync } from "node:fs";
import { join, sep } from "node:path";
import { getMcpConfigForManifest } from "@anthropic-ai/mcpb";

const [folder, settings] = process.argv.slice(2);
const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
const config = await getMcpConfigForManifest({
  manifest,
  extensionPath: folder,
  systemDirs: {},
  userConfig: JSON.parse(settings),
  pathSeparator: sep,
});
process.stdout.write(JSON.stringify(config));
