/** `berth check`: is the config right, and can everything it names be reached? Lists all that is wrong, not the first. */

import { bootDatabase, bootLogger, bootMailer, bootStorage } from "../boot.ts";
import type { Mailer } from "../clients/smtp.ts";
import type { Config, LoadedConfig } from "../config/load.ts";
import { schemaVersion } from "../db/migrate.ts";
import { requireUsable } from "../db/move/mark.ts";
import { EXIT, type Invocation } from "./invocation.ts";
import { localUrl, mainAddress } from "./listen-address.ts";
import { loadFor } from "./load.ts";

const PING_TIMEOUT_MS = 5000;
const HEALTH_TIMEOUT_MS = 5000;
const MAIL_TIMEOUT_MS = 5000;

/**
 * 0 when all is well, 69 when a service cannot be reached; a wrong config ends with 78 before that.
 * With `--running` only the instance on this machine is asked for its health: what a container's health check needs.
 */
export async function check(invocation: Invocation): Promise<number> {
  const loaded = loadFor(invocation);
  if (invocation.options.running === true) {
    return (await probe("instance", () => checkInstance(invocation, loaded))) ? EXIT.ok : EXIT.unavailable;
  }
  const { config, warnings } = loaded;
  for (const warning of warnings) process.stdout.write(`warning  ${warning}\n`);
  process.stdout.write("ok       config\n");
  const mailer = bootMailer(loaded, bootLogger(config), MAIL_TIMEOUT_MS);
  const results = [
    await probe("database", () => checkDatabase(config)),
    await probe("storage", () => checkStorage(loaded)),
    ...(mailer.isOn ? [await probe("mail", () => checkMail(config, mailer))] : []),
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

async function checkInstance(invocation: Invocation, loaded: LoadedConfig): Promise<string> {
  const url = `${localUrl(mainAddress(invocation, loaded), loaded.tls ? "https" : "http")}/health/instance`;
  // The certificate is made out for the name that clients use, which is not this one.
  const tls = { rejectUnauthorized: false };
  const response = await fetch(url, { tls, signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS) }).catch((cause: unknown) => {
    throw new Error(`${url} does not answer`, { cause });
  });
  if (response.status !== 200) throw new Error(`${url} answers ${response.status}: ${await response.text()}`);
  return `${url} answers 200`;
}

async function checkDatabase(config: Config): Promise<string> {
  const db = await bootDatabase(config, bootLogger(config));
  try {
    await db.ping(PING_TIMEOUT_MS);
    await requireUsable(db);
    return `${db.engine} answers, schema version ${await schemaVersion(db)}`;
  } finally {
    await db.close();
  }
}

async function checkStorage(loaded: LoadedConfig): Promise<string> {
  const storage = await bootStorage(loaded, bootLogger(loaded.config));
  await storage.check();
  return `${Object.keys(loaded.config.DISTRIBUTED_STORAGE_CONFIG).join(", ")} can be read and written`;
}

async function checkMail(config: Config, mailer: Mailer): Promise<string> {
  const where = `${config.MAIL_SERVER} port ${config.MAIL_PORT}`;
  await mailer.check().catch((cause: unknown) => {
    throw new Error(`${where} takes no mail from us`, { cause });
  });
  return `${where} would take mail from us`;
}
