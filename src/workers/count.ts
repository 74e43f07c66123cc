/** Counts what background work tells of itself, in this process's metrics. */

import type { App } from "../app.ts";
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
  if (told.of === "quota") {
    metrics.quotaCompared.inc(told.compared);
    metrics.quotaDrifts.inc(told.drifted);
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
