/** `berth scrub --status`: how old the last full pass of each location is, what runs, and what is out of service. */

import type { BootedApp } from "../boot.ts";
import { listBadCopies, scrubStatus } from "../domain/scrub/status.ts";
import { scrubView } from "../domain/scrub/view.ts";
import { EXIT } from "./invocation.ts";

/** Copies out of service that are named. */
const NAMED_MAX = 100;
const DAY_MS = 24 * 3600 * 1000;

/** 0 when nothing is out of service, else 1. */
export async function printScrubStatus(app: BootedApp, isJson: boolean): Promise<number> {
  const status = await scrubStatus(app);
  const bad = await listBadCopies(app.db, NAMED_MAX);
  const code = bad.length === 0 ? EXIT.ok : EXIT.failed;
  if (isJson) {
    process.stdout.write(`${JSON.stringify(scrubView(app.config, status, bad))}\n`);
    return code;
  }
  for (const { location, fullMs, ageMs, isUnderWay, isHeld, progress, startedMs, counts } of status) {
    const age = `${(ageMs / DAY_MS).toFixed(1)} days`;
    const full = fullMs === undefined ? "never read in full" : `last read in full ${age} ago`;
    const state = isUnderWay ? (isHeld ? "reading now" : "to be continued") : "resting";
    const share = isUnderWay ? ` (${Math.floor(100 * progress)} %)` : "";
    print(`${location}: ${full}; ${state}${share}`);
    if (startedMs === undefined) continue;
    const { blobs, bytes, repaired, unreadable } = counts;
    print(
      `  ${isUnderWay ? "this" : "last"} pass: ${blobs} blobs compared, ${bytes} bytes read, ${counts.bad} bad, ${repaired} repaired, ${unreadable} could not be read`,
    );
  }
  if (bad.length > 0) print("out of service:");
  for (const { digest, location, kind, foundMs } of bad) {
    const where = location === "" ? "no store" : location;
    print(`  ${digest}  ${where}  ${kind}  since ${new Date(foundMs).toISOString()}`);
  }
  return code;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
