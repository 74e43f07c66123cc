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
  run(bench: Bench): Promise<Row[]>;
}

export interface Turn<Prepared> {
  /** Brings an idle, empty server to where the work can begin; not measured. */
  prepare(server: BenchServer): Promise<Prepared>;
  /** One round. It gives one figure in the row's unit, or one with its latencies. */
  measure(server: BenchServer, prepared: Prepared, round: number): Promise<number | Measured>;
  /** Rounds that are thrown away; default 1. */
  warmUps?: number;
}

export interface Measured {
  figure: number;
  p50Ms: number;
  p99Ms: number;
}

/**
 * Starts every server, prepares it, then measures round by round, in turn and every second round in reverse. All servers
 * are up but only one is loaded at a time, and dirty pages are written out before each turn.
 */
export async function takeTurns<Prepared>(
  contenders: readonly Contender[],
  rounds: number,
  turn: Turn<Prepared>,
): Promise<Record<string, Cell>> {
  const seats: { server: BenchServer; prepared: Prepared; measured: Measured[] }[] = [];
  const servers: BenchServer[] = [];
  try {
    for (const contender of contenders) {
      const server = await contender.start();
      servers.push(server);
      seats.push({ server, prepared: await turn.prepare(server), measured: [] });
    }
    const warmUps = turn.warmUps ?? 1;
    for (let round = -warmUps; round < rounds; round++) {
      for (const seat of round % 2 === 0 ? seats : seats.toReversed()) {
        await settle();
        const result = await turn.measure(seat.server, seat.prepared, round);
        if (round >= 0) seat.measured.push(typeof result === "number" ? bare(result) : result);
      }
    }
    return Object.fromEntries(seats.map(({ server, measured }) => [server.name, toCell(measured, server)]));
  } finally {
    for (const server of servers) await server.stop();
  }
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
