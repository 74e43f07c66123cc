/**
 * Gauges of queues and stores, brought up to date when somebody scrapes: Quay's names for the queues, and for each store
 * what it still lacks and whether it works. Where the figures come from is handed in.
 */

import type { Registry } from "prom-client";
import { registerScrapedGauge } from "./scraped-gauge.ts";

export interface QueueFigures {
  readonly queue: string;
  /** Jobs that could be taken now. What is put off, as the removal of what can be restored is, is none, as in Quay. */
  readonly due: number;
  /** Jobs that are worked on. */
  readonly locked: number;
}

export interface StoreFigures {
  readonly location: string;
  readonly isUp: boolean;
  /** Blobs that should be there and are not yet. */
  readonly waiting: number;
  /** How long the oldest of them has been waiting. */
  readonly lagMs: number;
}

export interface ReplicationSource {
  queues(): Promise<readonly QueueFigures[]>;
  stores(): Promise<readonly StoreFigures[]>;
}

export function registerReplicationFigures(registry: Registry, source: ReplicationSource): void {
  const queue = (name: string, help: string, amount: (figures: QueueFigures) => number) =>
    registerScrapedGauge(registry, { name, help, labelNames: ["queue_name"] }, async () =>
      (await source.queues()).map((each) => [{ queue_name: each.queue }, amount(each)]),
    );
  const store = (name: string, help: string, amount: (figures: StoreFigures) => number) =>
    registerScrapedGauge(registry, { name, help, labelNames: ["location"] }, async () =>
      (await source.stores()).map((each) => [{ location: each.location }, amount(each)]),
    );
  const available = "jobs in a queue that are due or being worked on, counted up to 100000";
  queue("quay_queue_items_available", available, ({ due, locked }) => due + locked);
  queue("quay_queue_items_available_unlocked", "of these, not taken by a worker", ({ due }) => due);
  queue("quay_queue_items_locked", "of these, being worked on", ({ locked }) => locked);
  store("berth_storage_up", "1 when the store can be used", ({ isUp }) => (isUp ? 1 : 0));
  store("berth_replication_waiting", "blobs that a store still lacks", ({ waiting }) => waiting);
  store(
    "berth_replication_lag_seconds",
    "for how long the oldest of them has been lacking",
    ({ lagMs }) => lagMs / 1000,
  );
}
