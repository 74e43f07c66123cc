/** What the main thread and a Bun worker tell each other. Both are of one build, so nothing is parsed. */

import type { LoadedConfig } from "../config/load.ts";
import type { JobFigures } from "../db/job-stats.ts";
import type { Tally } from "../domain/gc/tally.ts";
import type { QuotaTally } from "../domain/quota/tally.ts";
import type { CopyEvent } from "../domain/replication/copy.ts";
import type { ScrubEvent } from "../domain/scrub/examine.ts";

/** What a worker does; one worker for each kind. */
export type WorkerKind = "replication" | "gc" | "quota" | "scrub";

/** What a worker tells of its work, for metrics. */
export type WorkerEvent =
  /** What was done to jobs through the worker's own database. */
  | { readonly of: "jobs"; readonly figures: JobFigures }
  | { readonly of: "replication"; readonly event: CopyEvent }
  /** A round of collection has ended; `isIdle` when it found nothing. */
  | { readonly of: "gc"; readonly tally: TallyFigures; readonly isIdle: boolean }
  | { readonly of: "scrub"; readonly event: ScrubEvent }
  /** A look at what there is to scrub has ended. */
  | { readonly of: "scrub"; readonly isIdle: boolean }
  /** A round of quota counting has ended. */
  | ({ readonly of: "quota"; readonly isIdle: boolean } & Pick<QuotaTally, "counted" | "compared" | "drifted">);

export type TallyFigures = Pick<Tally, "rowsByTable" | "blobs" | "bytes" | "repositories" | "namespaces">;

export type ToWorker =
  /** The first message: what to build from. `isShared` when other processes write into the same log. */
  | { readonly kind: "start"; readonly work: WorkerKind; readonly loaded: WorkerConfig; readonly isShared: boolean }
  | { readonly kind: "stop" };

export type FromWorker =
  | { readonly kind: "event"; readonly event: WorkerEvent }
  /** It has given back what it held and closed what it had opened. */
  | { readonly kind: "stopped" };

/** The parts of a loaded config that can be sent and are of use to a worker. */
export type WorkerConfig = Pick<LoadedConfig, "config" | "extraCaPaths">;
