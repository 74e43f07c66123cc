/**
 * One round of collection: takes what is due, step by step, until nothing is. Each step is a short transaction of its own,
 * so that a round may be killed anywhere, two may run at once, and pushes wait for milliseconds.
 */

import type { App } from "../../app.ts";
import { toBoolean } from "../../db/decode.ts";
import { errorFields } from "../../observe/logger.ts";
import { collectBlobs } from "./blobs.ts";
import { collected } from "./features.ts";
import { collectLinks } from "./links.ts";
import { collectManifests } from "./manifests.ts";
import { Pace } from "./pace.ts";
import { endExpiredTags, removeEndedTags } from "./tags.ts";
import type { Tally } from "./tally.ts";

export type GcApp = Pick<App, "config" | "db" | "storage" | "log">;

/** In the order in which one makes work for the next. Each gives whether there may be more of it. */
const STEPS: Readonly<Record<string, (app: GcApp, tally: Tally, pace: Pace) => Promise<boolean>>> = {
  "end expired tags": async ({ db }, _, pace) => (await pace.run(() => endExpiredTags(db))) > 0,
  "remove ended tags": ({ db }, tally, pace) => pace.run(() => removeEndedTags(db, tally)),
  "collect manifests": async (app, tally, pace) => (await collectManifests(app, tally, pace)) > 0,
  "let go of blobs": async (app, tally, pace) => (await collectLinks(app, tally, pace)) > 0,
  "delete blobs": async (app, tally, pace) => (await pace.run(() => collectBlobs(app, tally))) > 0,
};

/** Goes on until nothing is due or `signal` says to stop. A step that fails is logged and keeps no other from its work. */
export async function collect(app: GcApp, tally: Tally, signal?: AbortSignal): Promise<void> {
  const pace = new Pace(app.db);
  try {
    await goThrough(app, tally, pace, signal);
  } finally {
    pace.end();
  }
}

async function goThrough(app: GcApp, tally: Tally, pace: Pace, signal: AbortSignal | undefined): Promise<void> {
  const failed = new Set<string>();
  for (let isBusy = true; isBusy; ) {
    isBusy = false;
    for (const [name, step] of Object.entries(STEPS)) {
      for (let hasMore = !failed.has(name); hasMore; ) {
        if (signal?.aborted) return;
        try {
          hasMore = await step(app, tally, pace);
        } catch (error) {
          app.log.error(`cannot ${name}`, errorFields(error));
          failed.add(name);
          tally.failures++;
          break;
        }
        isBusy ||= hasMore;
      }
    }
  }
}

/**
 * True when a round would find something of what the config lets it collect: what waits for a feature that is off would
 * start a worker for nothing. Costs one look into each of seven indexes.
 */
export async function isAnythingDue({ db, config }: Pick<App, "db" | "config">): Promise<boolean> {
  const { nowMs } = db.dialect;
  const [row] = await db.sql<Record<"collectable" | "prunable" | "repository" | "namespace", unknown>>`/* gc.is_due */
    select exists (select 1 from blob where lease_until_ms > 0 and lease_until_ms <= ${nowMs})
        or exists (select 1 from repository_blob where lease_until_ms > 0 and lease_until_ms <= ${nowMs})
        or exists (select 1 from manifest where lease_until_ms is not null and lease_until_ms <= ${nowMs})
        or exists (select 1 from gc_repository where due_ms <= ${nowMs})
        or exists (select 1 from tag where expires_ms is not null and end_ms is null and expires_ms <= ${nowMs})
        as collectable,
      exists (select 1 from prune_repository where due_ms <= ${nowMs}) as prunable,
      exists (select 1 from job where queue = 'repositorygc' and lane = '' and due_ms <= ${nowMs}
                and attempts_left > 0) as repository,
      exists (select 1 from job where queue = 'namespacegc' and lane = '' and due_ms <= ${nowMs}
                and attempts_left > 0) as namespace`;
  if (!row) return false;
  const on = collected(config);
  return (
    (on.garbage_collection && toBoolean(row.collectable)) ||
    (on.auto_prune && toBoolean(row.prunable)) ||
    (on.repositories && toBoolean(row.repository)) ||
    (on.namespaces && toBoolean(row.namespace))
  );
}
