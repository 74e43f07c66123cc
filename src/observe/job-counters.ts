/** Quay's counters of queues. Gauges of what stands in them are in `replication-figures.ts`. */

import type { Metrics } from "./metrics.ts";

interface JobFigures {
  readonly puts: readonly (readonly [queue: string, count: number])[];
  readonly gets: readonly (readonly [queue: string, availability: string, count: number])[];
  readonly deletes: number;
}

/** Adds what was done to jobs, by this process or by a worker that told of it. */
export function countJobs(
  metrics: Pick<Metrics, "queuePuts" | "queueGets" | "queueDeletes">,
  { puts, gets, deletes }: JobFigures,
): void {
  for (const [queue_name, count] of puts) metrics.queuePuts.inc({ queue_name }, count);
  for (const [queue_name, availability, count] of gets) metrics.queueGets.inc({ queue_name, availability }, count);
  metrics.queueDeletes.inc(deletes);
}
