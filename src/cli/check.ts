/** `berth check`: is the config right, and can everything it names be reached? Lists all that is wrong, not the first. */

import { bootDatabase, bootLogger, bootStorage } from "../boot.ts";
import type { Config } from "../config/load.ts";
import { schemaVersion } from "../db/migrate.ts";
import { EXIT, type Invocation } from "./invocation.ts";
import { loadFor } from "./load.ts";

const PING_TIMEOUT_MS = 5000;

/** 0 when all is well, 69 when a service cannot be reached; a wrong config ends with 78 before that. */
export async function check(invocation: Invocation): Promise<number> {
  const { config, warnings } = loadFor(invocation);
  for (const warning of warnings) process.stdout.write(`warning  ${warning}\n`);
  process.stdout.write("ok       config\n");
  const results = [
    await probe("database", () => checkDatabase(config)),
    await probe("storage", () => checkStorage(config)),
  ];
  return results.every(Boolean) ? EXIT.ok : EXIT.unavailable;
}

async function probe(name: string, run: () => Promise<string>): Promise<boolean> {
  try {
    process.stdout.write(`ok       ${name}: ${await run()}\n`);
    return true;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const cause = error instanceof Error && error.cause instanceof Error ? ` (${error.cause.message})` : "";
    process.stdout.write(`failed   ${name}: ${message}${cause}\n`);
    return false;
  }
}

async function checkDatabase(config: Config): Promise<string> {
  const db = await bootDatabase(config, bootLogger(config));
  try {
    await db.ping(PING_TIMEOUT_MS);
    return `${db.engine} answers, schema version ${await schemaVersion(db)}`;
  } finally {
    await db.close();
  }
}

async function checkStorage(config: Config): Promise<string> {
  const storage = await bootStorage(config);
  await storage.check();
  return `${Object.keys(config.DISTRIBUTED_STORAGE_CONFIG).join(", ")} can be read and written`;
}
