/** What a workload is, and the order in which servers take their turns so that none profits from being first or last. */
import { runProcess } from "../support/process.ts";
import type { BenchServer, Contender } from "./contenders.ts";
import { type Cell, median, type Row } from "./report.ts";
import type { Settings } from "./settings.ts";

export interface Bench {
  settings: Settings;
  /** Berth first, then the peers that can run; without Berth when only peers are looked at. */
  contenders: Contender[];
}

export interface Workload {
  name: string;
  /** What it measures, for the list of workloads. */
  about: string;
  run(bench: Bench): Promise<Row[]>;
}

/** One round of work. It gives one figure in the row's unit, or one with its latencies. `round` is negative while warming up. */
export type Measure<Prepared> = (server: BenchServer, prepared: Prepared, round: number) => Promise<number | Measured>;

export interface Measured {
  figure: number;
  p50Ms: number;
  p99Ms: number;
}

export interface Seat<Prepared> {
  server: BenchServer;
  prepared: Prepared;
}

/** Starts every server, brings it to where the work can begin, runs `work` and stops them all, whatever happened. */
export async function withSeats<Prepared, Result>(
  contenders: readonly Contender[],
  prepare: (server: BenchServer) => Promise<Prepared>,
  work: (seats: Seat<Prepared>[]) => Promise<Result>,
): Promise<Result> {
  const servers: BenchServer[] = [];
  try {
    const seats: Seat<Prepared>[] = [];
    for (const contender of contenders) {
      const server = await contender.start();
      servers.push(server);
      seats.push({ server, prepared: await prepare(server) });
    }
    return await work(seats);
  } finally {
    for (const server of servers) await server.stop();
  }
}

/**
 * Measures round by round, in turn and every second round in reverse, after `warmUps` rounds that are thrown away. All
 * servers are up but only one is loaded at a time, and dirty pages are written out before each turn.
 */
export async function takeTurns<Prepared>(
  seats: readonly Seat<Prepared>[],
  rounds: { measured: number; warmUps: number },
  measure: Measure<Prepared>,
): Promise<Record<string, Cell>> {
  const results = seats.map((seat) => ({ seat, measured: [] as Measured[] }));
  for (let round = -rounds.warmUps; round < rounds.measured; round++) {
    for (const { seat, measured } of round % 2 === 0 ? results : results.toReversed()) {
      await settle();
      const result = await measure(seat.server, seat.prepared, round);
      if (round >= 0) measured.push(typeof result === "number" ? bare(result) : result);
    }
  }
  return Object.fromEntries(results.map(({ seat, measured }) => [seat.server.name, toCell(measured, seat.server)]));
}

/** Writes dirty pages out, so that one server's debt to the disk is not paid in the next one's time. */
export async function settle(): Promise<void> {
  await runProcess({ command: "sync" });
}

function bare(figure: number): Measured {
  return { figure, p50Ms: Number.NaN, p99Ms: Number.NaN };
}

function toCell(measured: Measured[], server: BenchServer): Cell {
  const figures = measured.map(({ figure }) => figure);
  const latencies = measured.every(({ p99Ms }) => Number.isFinite(p99Ms))
    ? { p50Ms: median(measured.map(({ p50Ms }) => p50Ms)), p99Ms: median(measured.map(({ p99Ms }) => p99Ms)) }
    : {};
  return { median: median(figures), rounds: figures, ...latencies, peakRssBytes: server.memory().peakRssBytes };
}
