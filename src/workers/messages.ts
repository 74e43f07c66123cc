/** What the main thread and a Bun worker tell each other. Both are of one build, so nothing is parsed. */

import type { LoadedConfig } from "../config/load.ts";
import type { CopyEvent } from "../domain/replication/copy.ts";

export type ToWorker =
  /** The first message: what to build from. `isShared` when other processes write into the same log. */
  { readonly kind: "start"; readonly loaded: WorkerConfig; readonly isShared: boolean } | { readonly kind: "stop" };

export type FromWorker =
  | { readonly kind: "event"; readonly event: CopyEvent }
  /** It has given back what it held and closed what it had opened. */
  | { readonly kind: "stopped" };

/** The parts of a loaded config that can be sent and are of use to a worker. */
export type WorkerConfig = Pick<LoadedConfig, "config" | "extraCaPaths">;
