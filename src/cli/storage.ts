/**
 * `berth storage …`: what an operator does with several stores. It works on the database and the stores directly, while the
 * registry runs.
 */

import { createInterface } from "node:readline/promises";
import { type BootedApp, boot, bootLogger } from "../boot.ts";
import { toNumber } from "../db/decode.ts";
import { countJobs } from "../db/queue.ts";
import { backfill } from "../domain/replication/backfill.ts";
import { storesOf } from "../domain/replication/figures.ts";
import { findOnlyThere, isKnownLocation, removeLocation } from "../domain/replication/remove-location.ts";
import { REPLICATION_QUEUE } from "../domain/replication/targets.ts";
import { complain, EXIT, type Invocation, UsageError } from "./invocation.ts";
import { loadFor } from "./load.ts";
import { copyCommand } from "./storage-copy.ts";

/** What it prints when it is not told what to do. */
export const USAGE = `usage: berth storage COMMAND [--config PATH] [--data DIR]

  status                               each store: engine, health, blobs, bytes, what it still lacks and for how long
  backfill                             queue the copies that existing blobs lack (replication runs them)
  copy --from LOCATION --to LOCATION   copy what one store has and the other lacks, and wait for it
  remove-location NAME [--yes]         forget a store that is no longer in the config; its bytes stay
`;

type Action = (app: BootedApp, invocation: Invocation, args: readonly string[]) => Promise<number>;

const ACTIONS: Record<string, { readonly args: number; readonly run: Action }> = {
  status: { args: 0, run: status },
  backfill: { args: 0, run: backfillCommand },
  copy: { args: 0, run: copyCommand },
  "remove-location": { args: 1, run: (app, invocation, [name = ""]) => remove(app, invocation, name) },
};

export async function storageCommand(invocation: Invocation): Promise<number> {
  const [name = "", ...args] = invocation.positionals;
  const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined;
  if (!action || args.length !== action.args) return complain(USAGE, EXIT.usage);
  const { options } = invocation;
  if (name !== "copy" && (options.from !== undefined || options.to !== undefined)) {
    throw new UsageError("--from and --to belong to copy");
  }
  if (name !== "remove-location" && options.yes) throw new UsageError("--yes belongs to remove-location");
  const loaded = loadFor(invocation);
  const app = await boot(loaded, bootLogger(loaded.config));
  try {
    return await action.run(app, invocation, args);
  } finally {
    await app.close();
  }
}

/** 0 when all stores work, 69 when one does not. */
async function status(app: BootedApp): Promise<number> {
  const { db, storage, config } = app;
  const failures = new Map<string, string>();
  for (const location of storage.locations) {
    await storage
      .driver(location)
      .check()
      .catch((error: unknown) => failures.set(location, error instanceof Error ? error.message : String(error)));
  }
  const held = await db.sql<{ location: string; blobs: number; bytes: number }>`/* storage.held */
    select p.location, count(*) as blobs, sum(b.size_bytes) as bytes
    from blob_placement p join blob b on b.id = p.blob_id group by p.location order by p.location`;
  const counts = await countJobs(db);
  const heldBy = (location: string) => {
    const row = held.find((each) => each.location === location);
    return [toNumber(row?.blobs ?? 0), toNumber(row?.bytes ?? 0)];
  };
  const rows = storesOf(app, counts).map(({ location, waiting, lagMs }) => [
    location,
    config.DISTRIBUTED_STORAGE_CONFIG[location]?.[0] ?? "",
    failures.has(location) ? "failed" : "ok",
    ...heldBy(location),
    waiting,
    `${Math.round(lagMs / 1000)} s`,
  ]);
  for (const { location } of held) {
    if (!storage.locations.includes(location))
      rows.push([location, "-", "not in the config", ...heldBy(location), "", ""]);
  }
  print(table([["location", "engine", "health", "blobs", "bytes", "waiting", "lag"], ...rows]));
  const givenUp = counts
    .filter(({ queue }) => queue === REPLICATION_QUEUE)
    .reduce((sum, each) => sum + each.givenUp, 0);
  if (givenUp > 0)
    print(`${givenUp} copies were given up: the log says why, "berth storage backfill" tries them again\n`);
  for (const [location, message] of failures) print(`${location}: ${message}\n`);
  return failures.size === 0 ? EXIT.ok : EXIT.unavailable;
}

async function backfillCommand(app: BootedApp): Promise<number> {
  if (!app.config.FEATURE_STORAGE_REPLICATION) {
    return complain(
      "berth storage: FEATURE_STORAGE_REPLICATION is off, so that nothing would copy what is queued",
      EXIT.config,
    );
  }
  const blobs = await backfill(app, (digest) => print(`Enqueueing manifest blob ${digest} to be replicated\n`));
  print(
    blobs === 0
      ? "every blob is in every location that it should be in\n"
      : `${blobs} blobs are queued or wait already\n`,
  );
  return EXIT.ok;
}

async function remove(app: BootedApp, invocation: Invocation, name: string): Promise<number> {
  if (app.storage.locations.includes(name)) {
    const message = `"${name}" is in DISTRIBUTED_STORAGE_CONFIG: take it out of the config of every instance first, lest they push to it again`;
    return complain(`berth storage: ${message}`, EXIT.failed);
  }
  if (!(await isKnownLocation(app.db, name))) {
    return complain(`berth storage: nothing is recorded of a location "${name}"`, EXIT.failed);
  }
  const only = await findOnlyThere(app, name);
  if (only.total > 0) return refuse(name, only.total, only.some);
  if (!invocation.options.yes && !(await isSure(name)))
    return complain("berth storage: nothing was removed", EXIT.failed);
  const left = await removeLocation(app, name, (blobId) => print(`Deleted placement ${blobId}\n`));
  if (left > 0) return refuse(name, left, (await findOnlyThere(app, name)).some);
  print(`Deleted location ${name}\n`);
  return EXIT.ok;
}

function refuse(name: string, total: number, some: readonly string[]): number {
  const more = total > some.length ? [`and ${total - some.length} more`] : [];
  const lines = [
    `berth storage: ${total} blobs are in "${name}" and in no other location of the config:`,
    ...[...some, ...more].map((each) => `  ${each}`),
    `put "${name}" back into the config, run "berth storage backfill" and wait until "berth storage status" shows nothing waiting`,
  ];
  return complain(lines.join("\n"), EXIT.failed);
}

/** Asks in Quay's words. Anything but a yes is a no, and so is an input that ends. */
async function isSure(name: string): Promise<boolean> {
  const question = `WARNING: This is a destructive operation. Are you sure you want to remove ${name} from your storage locations? [y/n] `;
  process.stdout.write(question);
  const lines = createInterface({ input: process.stdin });
  try {
    for await (const line of lines) return ["y", "yes"].includes(line.trim().toLowerCase());
    return false;
  } finally {
    lines.close();
  }
}

/** Columns as wide as their widest cell, numbers to the right. */
function table(rows: readonly (readonly (string | number)[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => String(row[column] ?? "").length)));
  const line = (row: readonly (string | number)[]) =>
    row
      .map((cell, column) =>
        typeof cell === "number" ? String(cell).padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join("  ")
      .trimEnd();
  return `${rows.map(line).join("\n")}\n`;
}

function print(line: string): void {
  process.stdout.write(line);
}
