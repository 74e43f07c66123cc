/**
 * Gauges of the scrub, brought up to date when somebody scrapes: how old the last full pass of each location is, and what is
 * out of service. They stand in the database, so that every instance and `berth worker` tell the same. Where the figures come
 * from is handed in.
 */

import type { Registry } from "prom-client";
import { registerScrapedGauge } from "./scraped-gauge.ts";

export interface ScrubFigures {
  readonly location: string;
  readonly ageSeconds: number;
  readonly isUnderWay: boolean;
  /** Copies that the pass under way, or the last one, could not read. */
  readonly unreadable: number;
}

export interface BadCopyFigures {
  readonly location: string;
  readonly kind: string;
  readonly count: number;
}

export interface ScrubSource {
  locations(): Promise<readonly ScrubFigures[]>;
  badCopies(): Promise<readonly BadCopyFigures[]>;
}

export function registerScrubFigures(registry: Registry, source: ScrubSource): void {
  const ofLocation = (name: string, help: string, amount: (figures: ScrubFigures) => number) =>
    registerScrapedGauge(registry, { name, help, labelNames: ["location"] }, async () =>
      (await source.locations()).map((each) => [{ location: each.location }, amount(each)]),
    );
  ofLocation(
    "berth_scrub_age_seconds",
    "seconds since the last pass that could compare every blob of a store with its digest, or since the store was added",
    ({ ageSeconds }) => ageSeconds,
  );
  ofLocation("berth_scrub_running", "1 while a pass is under way", ({ isUnderWay }) => (isUnderWay ? 1 : 0));
  ofLocation(
    "berth_scrub_unreadable_copies",
    "blobs that the pass under way, or the last one, could not read",
    ({ unreadable }) => unreadable,
  );
  registerScrapedGauge(
    registry,
    {
      name: "berth_scrub_bad_copies",
      help: "blobs that are out of service in a store, by what is wrong with them",
      labelNames: ["location", "kind"],
    },
    async () => (await source.badCopies()).map(({ location, kind, count }) => [{ location, kind }, count]),
  );
}
