/** What can go wrong between Berth (and the clients it redirects) and the S3 server, and with that server itself. */
import type { Random } from "../crash/random.ts";
import type { HttpFault } from "../support/fault-http.ts";
import { processTree } from "../support/process.ts";
import type { Fault } from "./run.ts";
import type { FaultyStore, StoreProcess } from "./start.ts";

/** A request that the store never answers is sent again after half a minute, as often as a minute allows, on its way to disk. */
export const STORE_ANSWER_WITHIN_MS = 120_000;

/** A short trouble is over before the last try of a request, a long one is not. */
async function forAWhile(random: Random): Promise<void> {
  await Bun.sleep(random.chance(0.5) ? random.between(100, 1000) : random.between(3_000, 5_000));
}

export function storeFaults(store: FaultyStore): Fault[] {
  const { proxy } = store;
  const { faults, http } = proxy;
  const during = (name: string, begin: () => void): Fault => ({
    name: `store: ${name}`,
    strike: async (random) => {
      begin();
      await forAWhile(random);
      faults.clear();
    },
  });
  /** Single answers are spoilt; how many is in what `http.struck` counts. */
  const answers = (name: string, ...rules: readonly HttpFault[]): Fault => ({
    name: `store: ${name}`,
    strike: async (random) => {
      http.faults.push(...rules.map((rule) => ({ ...rule })));
      await forAWhile(random);
      http.faults.length = 0;
    },
  });
  const slowDown = { kind: "status", status: 503 } as const;
  return [
    during("latency", () => {
      faults.latencyMs.toServer = 80;
      faults.latencyMs.toClient = 80;
    }),
    during("narrow line", () => {
      faults.bytesPerSecond.toServer = 60_000;
      faults.bytesPerSecond.toClient = 60_000;
    }),
    during("silence both ways", () => {
      faults.silent.toServer = true;
      faults.silent.toClient = true;
    }),
    during("silence to the server", () => {
      faults.silent.toServer = true;
    }),
    during("silence from the server", () => {
      faults.silent.toClient = true;
    }),
    during("connections refused and reset", () => {
      faults.refuse = true;
      proxy.resetAll();
    }),
    during("reset after some kilobytes", () => {
      faults.resetAfterBytes = 30_000;
    }),
    during("ends half-way to the server", () => {
      faults.endAfterBytes.toServer = 12_000;
    }),
    during("ends half-way from the server", () => {
      faults.endAfterBytes.toClient = 12_000;
    }),
    answers("503 SlowDown to every second request", { share: 0.5, does: slowDown }),
    answers("503 SlowDown to all", { does: slowDown }),
    answers("500 to every third request", { share: 0.34, does: { kind: "status", status: 500 } }),
    answers("answers to writes lost", { method: "PUT", share: 0.5, does: { kind: "lost" } }),
    answers(
      "answers lost, whatever they are to",
      { method: "POST", share: 0.5, does: { kind: "lost" } },
      { method: "DELETE", share: 0.5, does: { kind: "lost" } },
      { share: 0.2, does: { kind: "lost" } },
    ),
    answers(
      "answers cut in their bodies",
      { method: "GET", share: 0.5, does: { kind: "cut", bytes: 700 } },
      { method: "GET", share: 0.2, does: { kind: "cut", bytes: 3_000_000 } },
    ),
    answers("some answers late", { share: 0.3, does: { kind: "delay", delayMs: 900 } }),
    answers("two requests never answered", { times: 2, does: { kind: "silent" } }),
    {
      name: "store: all connections reset",
      strike: async () => {
        proxy.resetAll();
      },
    },
    ...(store.process ? processFaults(store.process) : []),
  ];
}

function processFaults(server: StoreProcess): Fault[] {
  return [
    {
      name: "store: server frozen",
      strike: async (random) => {
        const frozen = processTree(server.pid());
        for (const pid of frozen) process.kill(pid, "SIGSTOP");
        await forAWhile(random);
        for (const pid of frozen) process.kill(pid, "SIGCONT");
      },
    },
    {
      name: "store: kill -9 and start",
      strike: async (random) => {
        await server.crash();
        await Bun.sleep(random.between(0, 2000));
        await server.restart();
      },
    },
  ];
}
