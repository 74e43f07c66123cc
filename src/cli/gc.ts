/**
 * `berth gc`: one round of garbage collection now, in this process and beside a running registry. With `--status` it tells what
 * waits and what was freed, with `--dry-run` why one thing is kept; both change nothing.
 */

import { type BootedApp, boot, bootLogger } from "../boot.ts";
import { explainKept } from "../domain/gc/explain.ts";
import { findGcStatus } from "../domain/gc/status.ts";
import type { Tally } from "../domain/gc/tally.ts";
import { explanationView, gcStatusView } from "../domain/gc/views.ts";
import { collectsAnything, runRound } from "../workers/gc-round.ts";
import { explanationText, showBytes, statusText } from "./gc-text.ts";
import { complain, EXIT, type Invocation, UsageError } from "./invocation.ts";
import { loadFor, requireRegistry, text } from "./load.ts";

/** A little more than the poll of `db/sqlite.ts`: a registry on the same file has heard of what went. */
const CHANGES_HEARD_MS = 250;

/** 0 when all went well, 1 when a part failed and is tried again, 78 when the config collects nothing, 130 when interrupted. */
export async function gcCommand(invocation: Invocation): Promise<number> {
  const { options, positionals } = invocation;
  const target = text(options["dry-run"]);
  if (positionals.length > 0) {
    throw new UsageError(`"${positionals[0]}" is not an option: what to explain is named with --dry-run`);
  }
  if (options.status && target !== undefined) throw new UsageError("--status and --dry-run are two questions: ask one");
  const loaded = loadFor(invocation);
  requireRegistry(loaded);
  const isJson = options.json === true;
  const app = await boot(loaded, bootLogger(loaded.config));
  try {
    if (target !== undefined) return await explain(app, target, isJson);
    return options.status ? await status(app, isJson) : await run(app, isJson);
  } finally {
    await app.close();
  }
}

async function explain(app: BootedApp, target: string, isJson: boolean): Promise<number> {
  const view = explanationView(app.config, await explainKept(app, target));
  print(isJson ? JSON.stringify(view) : explanationText(view, Date.now()));
  return EXIT.ok;
}

async function status(app: BootedApp, isJson: boolean): Promise<number> {
  const view = gcStatusView(app.config, await findGcStatus(app));
  print(isJson ? JSON.stringify(view) : statusText(view));
  return EXIT.ok;
}

async function run(app: BootedApp, isJson: boolean): Promise<number> {
  if (!collectsAnything(app)) {
    const isReadonly = app.config.REGISTRY_STATE === "readonly";
    const message = isReadonly
      ? "REGISTRY_STATE is readonly: nothing is collected"
      : "FEATURE_GARBAGE_COLLECTION and its kin are off: the config lets nothing be collected";
    return complain(`berth gc: ${message}`, EXIT.config);
  }
  const stop = new AbortController();
  const onSignal = () => stop.abort(new Error("interrupted"));
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, onSignal);
  try {
    const tally = await runRound(app, stop.signal);
    print(isJson ? JSON.stringify(tallyView(tally)) : tallyText(tally));
    if (app.db.engine === "sqlite" && !tally.isEmpty) await Bun.sleep(CHANGES_HEARD_MS);
    if (stop.signal.aborted) {
      return complain("berth gc: interrupted; the registry goes on with what is left", EXIT.interrupted);
    }
    if (tally.failures === 0) return EXIT.ok;
    return complain("berth gc: a part of it failed and is tried again later; the log says why", EXIT.failed);
  } finally {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.off(signal, onSignal);
  }
}

function tallyView({ bytes, blobs, repositories, namespaces, rowsByTable, failures }: Tally) {
  return { bytes, blobs, repositories, namespaces, rows_by_table: Object.fromEntries(rowsByTable), failures };
}

function tallyText(tally: Tally): string {
  if (tally.isEmpty) return tally.failures > 0 ? "nothing was freed" : "nothing was due";
  const { bytes, blobs, repositories, namespaces } = tally;
  const rows = [...tally.rowsByTable].map(([table, count]) => `  ${table}: ${count}`);
  return [
    `freed ${showBytes(bytes)} in ${blobs} blobs; removed ${repositories} repositories, ${namespaces} namespaces and rows of`,
    ...rows,
  ].join("\n");
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
