/**
 * Several processes that share a port are scraped as one: a gauge is their sum unless it says otherwise (`aggregator`).
 *
 * The `process_*` series every Prometheus client library offers. prom-client's own collector is not used: under Bun its
 * event-loop series come out as numbers that Prometheus refuses to parse.
 */

import { readdirSync } from "node:fs";
import { Counter, Gauge, type Registry } from "prom-client";

export function registerProcessFigures(registry: Registry): void {
  const registers = [registry];
  const startSeconds = Date.now() / 1000 - process.uptime();
  new Gauge({
    name: "process_start_time_seconds",
    help: "when this process began, unix time",
    aggregator: "min",
    registers,
    collect() {
      this.set(startSeconds);
    },
  });
  new Gauge({
    name: "process_resident_memory_bytes",
    help: "resident memory",
    registers,
    collect() {
      this.set(process.memoryUsage.rss());
    },
  });
  new Gauge({
    name: "process_open_fds",
    help: "open file descriptors",
    registers,
    collect() {
      const count = openDescriptors();
      if (count !== undefined) this.set(count);
    },
  });
  new Counter({
    name: "process_cpu_seconds_total",
    help: "user and system time spent",
    registers,
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
}

/** Undefined where the system has no /proc. */
function openDescriptors(): number | undefined {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch {
    return undefined;
  }
}
