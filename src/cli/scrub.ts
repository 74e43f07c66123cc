/**
 * `berth scrub`: compares stored blobs with their digests now, in this process and beside a running registry, which goes on
 * with what is left when it is interrupted. With `--status` it only tells how the scrub stands.
 */

import { type BootedApp, boot, bootLogger } from "../boot.ts";
import { sizeBytes } from "../config/units.ts";
import { listCopiesOf } from "../domain/scrub/copies.ts";
import { examineCopy, type ScrubEvent } from "../domain/scrub/examine.ts";
import { type Counts, noteLocations, takePass } from "../domain/scrub/lease.ts";
import { type PassEnd, type PassOptions, runPass } from "../domain/scrub/pass.ts";
import type { TokenBucket } from "../lib/token-bucket.ts";
import { parseDigest } from "../oci/digest.ts";
import { scrubBudget } from "../workers/scrub.ts";
import { complain, EXIT, type Invocation, UsageError } from "./invocation.ts";
import { loadFor, requireRegistry, text } from "./load.ts";
import { printScrubStatus } from "./scrub-status.ts";

/** How often it tells how far it is. */
const TELL_MS = 10_000;
/** A little more than the poll of `db/sqlite.ts`: a registry on the same file has heard of what was found. */
const CHANGES_HEARD_MS = 250;

interface Options {
  readonly signal: AbortSignal;
  readonly budget: TokenBucket | undefined;
  readonly isJson: boolean;
  readonly print: (line: string) => void;
}

interface Result {
  readonly location: string;
  readonly end: PassEnd;
  readonly counts: Counts;
}

/** 0 when all is right, 1 when something was bad, repaired or not, 69 when something could not be read, 130 when interrupted. */
export async function scrubCommand(invocation: Invocation): Promise<number> {
  const { options, positionals } = invocation;
  if (positionals.length > 0) throw new UsageError(`"${positionals[0]}" is not an option: blobs are named with --blob`);
  if (options.status && (options.blob !== undefined || options["bytes-per-second"] !== undefined))
    throw new UsageError("--status reads nothing: it goes with --json alone");
  const loaded = loadFor(invocation);
  requireRegistry(loaded);
  const budget = budgetOf(invocation, loaded.config.SCRUB_BYTES_PER_SECOND);
  const app = await boot(loaded, bootLogger(loaded.config));
  const stop = new AbortController();
  const onSignal = () => stop.abort(new Error("interrupted"));
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, onSignal);
  try {
    const isJson = options.json === true;
    if (options.status) return await printScrubStatus(app, isJson);
    const print = (line: string) => void (isJson || process.stdout.write(`${line}\n`));
    const run: Options = { signal: stop.signal, budget, isJson, print };
    const code = await (options.blob === undefined ? scrubAll(app, invocation, run) : scrubBlob(app, invocation, run));
    if (app.db.engine === "sqlite") await Bun.sleep(CHANGES_HEARD_MS);
    return code;
  } finally {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.off(signal, onSignal);
    await app.close();
  }
}

async function scrubAll(app: BootedApp, invocation: Invocation, options: Options): Promise<number> {
  const locations = locationsOf(app, invocation);
  await noteLocations(app.db, locations);
  const results: Result[] = [];
  for (const location of locations) {
    if (options.signal.aborted) break;
    results.push(await scrubLocation(app, location, options));
  }
  if (options.isJson)
    printJson({ locations: results.map(({ location, end, counts }) => ({ location, end, ...counts })) });
  if (options.signal.aborted) {
    const next = app.config.FEATURE_SCRUB ? "; the registry goes on from here in the background" : "";
    return complain(`berth scrub: interrupted${next}`, EXIT.interrupted);
  }
  if (results.some(({ counts }) => counts.bad > 0)) return EXIT.failed;
  if (results.some(({ end }) => end === "lost"))
    return complain("berth scrub: another scrub of the same location has begun and goes on instead", EXIT.failed);
  return results.every(({ end, counts }) => end === "done" && counts.unreadable === 0) ? EXIT.ok : EXIT.unavailable;
}

async function scrubLocation(app: BootedApp, location: string, options: Options): Promise<Result> {
  const { print } = options;
  const pass = await takePass(app.db, location, undefined);
  if (!pass) throw new Error(`the location "${location}" has just been removed`);
  let toldMs = performance.now();
  const passOptions: PassOptions = {
    signal: options.signal,
    budget: options.budget,
    report: (event) => tell(event, print),
    onProgress: ({ afterId, lastId, counts }) => {
      if (performance.now() - toldMs < TELL_MS) return;
      toldMs = performance.now();
      print(`${location}: ${Math.floor((100 * afterId) / Math.max(1, lastId))} %, ${summary(counts)}`);
    },
  };
  const { end, counts } = await runPass(app, pass, passOptions);
  const ends: Record<PassEnd, string> = {
    done: "done",
    stopped: "interrupted",
    away: "not done, because the store cannot be read now",
    lost: "not done, because another scrub took over",
  };
  print(`${location}: ${ends[end]}: ${summary(counts)}`);
  return { location, end, counts };
}

/** Every copy of one blob. */
async function scrubBlob(app: BootedApp, invocation: Invocation, options: Options): Promise<number> {
  const digest = parseDigest(text(invocation.options.blob) ?? "");
  const locations = locationsOf(app, invocation);
  const copies = (await listCopiesOf(app.db, digest)).filter(({ location }) => locations.includes(location));
  if (copies.length === 0) return complain(`berth scrub: no store of the config has a blob "${digest}"`, EXIT.failed);
  const { signal, budget, print } = options;
  const outcomes: { location: string; outcome: string }[] = [];
  for (const copy of copies) {
    if (signal.aborted) break;
    const report = (event: ScrubEvent) => tell(event, print);
    const outcome = await examineCopy(app, copy, { signal, budget, report, isAlone: true });
    print(`${copy.location}: ${outcome}`);
    outcomes.push({ location: copy.location, outcome });
  }
  if (options.isJson) printJson({ digest, copies: outcomes });
  if (signal.aborted) return complain("berth scrub: interrupted", EXIT.interrupted);
  if (outcomes.some(({ outcome }) => outcome === "bad" || outcome === "repaired")) return EXIT.failed;
  return outcomes.every(({ outcome }) => outcome === "good" || outcome === "gone") ? EXIT.ok : EXIT.unavailable;
}

function tell(event: ScrubEvent, print: (line: string) => void): void {
  if (event.kind === "read") return;
  const { location, digest } = event;
  if (event.kind === "bad") {
    const where = location === "" ? "in no store" : `in "${location}"`;
    print(`${digest} ${where}: bad (${event.bad}), out of service`);
  } else if (event.kind === "repaired") print(`${digest} in "${location}": repaired, in service`);
  else print(`${digest} in "${location}": cannot be read: ${event.message}`);
}

function summary({ blobs, bytes, bad, repaired, unreadable }: Counts): string {
  const more = unreadable > 0 ? `, ${unreadable} could not be read` : "";
  return `${blobs} blobs compared, ${bytes} bytes read, ${bad} bad, ${repaired} repaired${more}`;
}

/** The budget of this run: its own, or the config's. Throws UsageError. */
function budgetOf({ options }: Invocation, configured: number): TokenBucket | undefined {
  const given = text(options["bytes-per-second"]);
  if (given === undefined) return scrubBudget(configured);
  if (given === "unlimited") return undefined;
  const bytes = /^[1-9]/.test(given) ? trySize(given) : undefined;
  if (bytes) return scrubBudget(bytes);
  throw new UsageError(`--bytes-per-second "${given}": write a number of bytes such as 64Mi, or unlimited`);
}

function trySize(given: string): number | undefined {
  try {
    return sizeBytes(given);
  } catch {
    return undefined;
  }
}

/** The one that is named, or all. Throws UsageError for one that the config does not have. */
function locationsOf({ storage }: BootedApp, { options }: Invocation): readonly string[] {
  const name = text(options.location);
  if (name === undefined) return storage.locations;
  if (storage.locations.includes(name)) return [name];
  throw new UsageError(`--location "${name}" is not in DISTRIBUTED_STORAGE_CONFIG: ${storage.locations.join(", ")}`);
}

function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
