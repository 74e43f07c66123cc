/**
 * What the processes of one `berth serve --processes N` tell each other. Parent and children may be of two versions while a
 * new binary is rolled out, so a kind that somebody does not know is passed over.
 */

import type { LogFields, LogLevel } from "../observe/logger.ts";

/** Variable by which a child knows that it is one: JSON of `Seat`. */
export const SEAT_VARIABLE = "BERTH_PROCESS";

/** Where a child listens: the first one takes what the command line says, and the others its ports. */
export interface Seat {
  /** One of the processes does what the machine needs done once: copies between stores. */
  readonly leads?: boolean;
  readonly ports?: { readonly http: number; readonly metrics: number | undefined };
}

/** One process's metrics, as prom-client writes them for others. */
export type Figures = readonly object[];

export type FromChild =
  | {
      readonly kind: "listening";
      readonly ports: NonNullable<Seat["ports"]>;
      /** Of the line that tells the addresses. */
      readonly fields: LogFields;
      readonly warnings: readonly string[];
      /** From which level on the config wants lines. */
      readonly level: LogLevel;
    }
  /** Something else than a signal wants the whole server to stop. */
  | { readonly kind: "stop"; readonly reason: string }
  /** Wants the figures of the others, answered with `figures` under the same id. */
  | { readonly kind: "gather"; readonly id: number }
  | { readonly kind: "figures"; readonly id: number; readonly figures: Figures }
  /** Committed something that caches of the others may hold. */
  | { readonly kind: "changed" };

export type ToChild =
  /** Leave the port to the others and end when nothing runs any more. */
  | { readonly kind: "retire" }
  | { readonly kind: "gather"; readonly id: number }
  | { readonly kind: "figures"; readonly id: number; readonly figures: readonly Figures[] }
  | { readonly kind: "changed" };
