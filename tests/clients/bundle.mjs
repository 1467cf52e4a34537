// Prints, as JSON, the command, args and env with which a client starts an unpacked bundle, from the bundle format's own library:
// node bundle.mjs FOLDER SETTINGS. SETTINGS is the user's input as JSON. As in real clients, placeholders without input stay.
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
