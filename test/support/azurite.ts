/**
 * Microsoft's emulator of Azure Blob storage, which checks SharedKey signatures and SAS as the service does. It is no
 * development dependency: it brings 350 packages that `npm ci` would fetch for everybody, so the tests' set-up installs it
 * into `.cache`. It wants a newer Node.js than Debian's and runs on that as well; under Bun it does not copy blocks.
 */
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type RunningProcess, runProcess, startProcess } from "./process.ts";
import { makeTempDir } from "./temp-dir.ts";
import { requireTool } from "./tools.ts";

export interface Azurite {
  readonly port: number;
  readonly account: string;
  /** The account's key, in base64. */
  readonly key: string;
  /** What `endpoint_url` names: the account's name is in the path. */
  readonly url: string;
  readonly process: RunningProcess;
  stop(): Promise<void>;
}

/** The first version that copies blocks from a URL. */
const version = "3.37.0";
/** Telemetry, which is off, would bring half of what is installed; this is a version of it from before. */
const overrides = { applicationinsights: "2.9.8" };
const cacheDir = join(import.meta.dir, "..", "..", ".cache");
const installDir = join(cacheDir, `azurite-${version}`);
const program = join(installDir, "node_modules", "azurite", "dist", "src", "blob", "main.js");
const installTimeoutMs = 10 * 60_000;
/** It loads a few thousand files on a machine that may be busy. */
const startTimeoutMs = 120_000;

/** Installs it, when it is not there yet. False when that failed; the reason is printed. */
export async function installAzurite(print: (line: string) => void): Promise<boolean> {
  if (existsSync(program)) return true;
  print(`npm install azurite@${version}`);
  mkdirSync(cacheDir, { recursive: true });
  // Aside and renamed, so that two runs at once never see half of it.
  const workDir = mkdtempSync(join(cacheDir, ".azurite-"));
  try {
    writeFileSync(join(workDir, "package.json"), JSON.stringify({ dependencies: { azurite: version }, overrides }));
    const args = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    await runProcess({ command: requireTool("npm"), args, cwd: workDir, timeoutMs: installTimeoutMs });
    renameSync(workDir, installDir);
  } catch (error) {
    if (!existsSync(program)) {
      print(`azurite: ${error instanceof Error ? error.message : String(error)}`);
      return false;
    }
  } finally {
    rmSync(workDir, { recursive: true, force: true });
  }
  return true;
}

/** Starts it with one account and a random key. Throws when it is not installed, with the command that does it. */
export async function startAzurite(): Promise<Azurite> {
  if (!existsSync(program)) {
    throw new Error(`Azurite is needed and not installed. Run: bun scripts/setup-test.ts packages`);
  }
  const account = "berthtest";
  const key = Buffer.from(crypto.getRandomValues(new Uint8Array(64))).toString("base64");
  const dir = makeTempDir("azurite");
  const server = startProcess({
    command: requireTool("node"),
    args: [
      program,
      ...["--blobHost", "127.0.0.1", "--blobPort", "0", "--location", dir.path],
      ...["--silent", "--disableTelemetry"],
    ],
    cwd: dirname(program),
    env: { AZURITE_ACCOUNTS: `${account}:${key}` },
    name: "azurite",
  });
  const line = await server.waitForLine(/successfully listens on http/, startTimeoutMs);
  const port = Number(/:(\d+)\/?\s*$/.exec(line)?.[1]);
  return {
    port,
    account,
    key,
    url: `http://127.0.0.1:${port}/${account}`,
    process: server,
    stop: async () => {
      await server.stop();
      dir.remove();
    },
  };
}
