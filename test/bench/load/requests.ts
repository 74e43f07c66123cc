/**
 * Repeats one GET over several connections and reports rate and latency. wrk does it where it is installed, because a
 * generator must be faster than what it measures; otherwise a loop of our own, which the result says.
 */
import { runProcess } from "../../support/process.ts";
import { findTool } from "../../support/tools.ts";
import { RawConnection } from "./connection.ts";

export interface RequestLoad {
  url: string;
  headers: Record<string, string>;
  connections: number;
  seconds: number;
}

export interface RequestFigures {
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  generator: "wrk" | "own loop";
}

/** Runs the load. Throws on any answer that is not 200 and on any broken connection. */
export async function loadRequests(load: RequestLoad): Promise<RequestFigures> {
  const probe = await fetch(load.url, { headers: load.headers, redirect: "manual" });
  const body = await probe.text();
  if (probe.status !== 200) throw new Error(`GET ${load.url} was answered ${probe.status}: ${body.slice(0, 500)}`);
  const wrk = findTool("wrk");
  return wrk === undefined ? loadByLoop(load) : loadByWrk(wrk, load);
}

async function loadByWrk(wrk: string, load: RequestLoad): Promise<RequestFigures> {
  const headers = Object.entries(load.headers).flatMap(([name, value]) => ["-H", `${name}: ${value}`]);
  const { stdout } = await runProcess({
    command: wrk,
    args: ["-t1", `-c${load.connections}`, `-d${load.seconds}s`, "--latency", ...headers, load.url],
    timeoutMs: (load.seconds + 20) * 1000,
  });
  const problem = /^\s*(Socket errors|Non-2xx).*$/m.exec(stdout)?.[0];
  if (problem !== undefined) throw new Error(`GET ${load.url} under load:${problem}`);
  return {
    perSecond: Number(/^Requests\/sec:\s+([\d.]+)/m.exec(stdout)?.[1]),
    p50Ms: durationMs(/^\s+50%\s+(\S+)/m.exec(stdout)?.[1]),
    p99Ms: durationMs(/^\s+99%\s+(\S+)/m.exec(stdout)?.[1]),
    generator: "wrk",
  };
}

function durationMs(text: string | undefined): number {
  const [, value, unit] = /^([\d.]+)(us|ms|s|m)$/.exec(text ?? "") ?? [];
  const factors: Record<string, number> = { us: 0.001, ms: 1, s: 1000, m: 60_000 };
  const factor = factors[unit ?? ""];
  if (factor === undefined) throw new Error(`wrk printed a latency that is no duration: "${text}"`);
  return Number(value) * factor;
}

async function loadByLoop(load: RequestLoad): Promise<RequestFigures> {
  const latenciesMs: number[] = [];
  const start = performance.now();
  const end = start + load.seconds * 1000;
  const target = new URL(load.url);
  const client = async () => {
    const connection = new RawConnection(load.url);
    while (performance.now() < end) {
      const sent = performance.now();
      const response = await connection.request({
        method: "GET",
        target: target.pathname + target.search,
        headers: load.headers,
      });
      if (response.status !== 200) throw new Error(`GET ${load.url} was answered ${response.status} under load`);
      latenciesMs.push(performance.now() - sent);
    }
    connection.close();
  };
  await Promise.all(Array.from({ length: load.connections }, client));
  const elapsedSeconds = (performance.now() - start) / 1000;
  latenciesMs.sort((a, b) => a - b);
  const at = (share: number) => latenciesMs[Math.floor(latenciesMs.length * share)] ?? Number.NaN;
  return { perSecond: latenciesMs.length / elapsedSeconds, p50Ms: at(0.5), p99Ms: at(0.99), generator: "own loop" };
}
