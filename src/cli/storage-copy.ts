/** `berth storage copy`: moves what one store has to another one, in the foreground and with its progress on stdout. */

import type { BootedApp } from "../boot.ts";
import { copyAll, findLacking } from "../domain/replication/copy-all.ts";
import { complain, EXIT, type Invocation, UsageError } from "./invocation.ts";
import { text } from "./load.ts";

/** Blobs that were pushed meanwhile, or failed for a moment, get another pass. */
const PASSES_MAX = 3;

/** 0 when everything is there, 1 when something is not, 130 when it was interrupted. */
export async function copyCommand(app: BootedApp, invocation: Invocation): Promise<number> {
  const from = requireLocation(app, invocation, "from");
  const to = requireLocation(app, invocation, "to");
  if (from === to) throw new UsageError("--from and --to name the same location");
  // Said now and not after a page of failures.
  for (const location of [from, to]) await app.storage.driver(location).check();
  const stop = new AbortController();
  const onSignal = () => stop.abort(new Error("interrupted"));
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, onSignal);
  try {
    return await copy(app, from, to, stop.signal);
  } finally {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.off(signal, onSignal);
  }
}

async function copy(app: BootedApp, from: string, to: string, signal: AbortSignal): Promise<number> {
  let lacking = await findLacking(app.db, from, to);
  print(`${lacking.total} blobs (${lacking.totalBytes} bytes) of "${from}" are not in "${to}"`);
  try {
    for (let pass = 0; pass < PASSES_MAX && lacking.total > 0; pass++) {
      const { total, totalBytes } = lacking;
      await copyAll(app, {
        from,
        to,
        signal,
        report: (event) => {
          if (event.kind === "corrupt") print(`wrong or missing bytes in "${event.location}", see the log`);
        },
        onPage: (blobs, sizeBytes) => print(`${blobs} of ${total} blobs, ${sizeBytes} of ${totalBytes} bytes`),
      });
      const left = await findLacking(app.db, from, to);
      const isStuck = left.total >= total;
      lacking = left;
      if (isStuck) break;
    }
  } catch (error) {
    if (!signal.aborted) throw error;
    return complain("berth storage: interrupted; the same command goes on where it was", EXIT.interrupted);
  }
  if (lacking.total === 0) {
    print(`every blob of "${from}" is in "${to}"`);
    return EXIT.ok;
  }
  const lines = [`berth storage: ${lacking.total} blobs of "${from}" are still not in "${to}":`, ...lacking.some];
  return complain(lines.join("\n  "), EXIT.failed);
}

/** The location that an option names. Throws UsageError when it is missing or not in the config. */
function requireLocation({ storage }: BootedApp, { options }: Invocation, name: "from" | "to"): string {
  const given = text(options[name]);
  if (given === undefined)
    throw new UsageError(`--${name} is missing: it names a location of DISTRIBUTED_STORAGE_CONFIG`);
  if (storage.locations.includes(given)) return given;
  throw new UsageError(`--${name} is "${given}", use one of ${storage.locations.join(", ")}`);
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
