/** Counts what background work tells of itself, in this process's metrics. */

import type { App } from "../app.ts";
import type { ScrubEvent } from "../domain/scrub/examine.ts";
import { countJobs } from "../observe/job-counters.ts";
import type { WorkerEvent } from "./messages.ts";

export function countWork({ metrics }: Pick<App, "metrics">, told: WorkerEvent): void {
  if (told.of === "replication") {
    const { event } = told;
    const { location } = event;
    if (event.kind === "corrupt") metrics.replicationWrong.inc({ location });
    else {
      metrics.replicatedBlobs.inc({ location });
      metrics.replicatedBytes.inc({ location }, event.sizeBytes);
    }
    return;
  }
  if (told.of === "scrub") {
    if ("event" in told) countScrub(metrics, told.event);
    return;
  }
  if (told.of === "quota") {
    metrics.quotaCompared.inc(told.compared);
    metrics.quotaDrifts.inc(told.drifted);
    return;
  }
  if (told.of === "jobs") {
    countJobs(metrics, told.figures);
    return;
  }
  const { rowsByTable, blobs, bytes, repositories, namespaces } = told.tally;
  metrics.gcIterations.inc();
  metrics.gcNamespaces.inc(namespaces);
  metrics.gcRepositories.inc(repositories);
  metrics.gcBlobs.inc(blobs);
  metrics.gcBytes.inc(bytes);
  for (const [table, count] of rowsByTable) metrics.gcRows.inc({ table }, count);
}

function countScrub(metrics: App["metrics"], event: ScrubEvent): void {
  const { location } = event;
  if (event.kind === "read") metrics.scrubBytes.inc({ location }, event.sizeBytes);
  else if (event.kind === "bad") metrics.scrubBad.inc({ location, kind: event.bad });
  else if (event.kind === "repaired") metrics.scrubRepaired.inc({ location });
  else metrics.scrubUnreadable.inc({ location });
}
