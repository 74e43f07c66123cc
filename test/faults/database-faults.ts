/** What can go wrong between Berth and PostgreSQL, and with PostgreSQL itself, as faults of a run. */
import postgres from "postgres";
import type { Random } from "../crash/random.ts";
import type { FaultProxy } from "../support/fault-proxy.ts";
import type { LocalPostgres } from "../support/postgres-local.ts";
import { processTree } from "../support/process.ts";
import type { Fault } from "./run.ts";

export interface DatabasePlace {
  readonly server: LocalPostgres;
  /** Between Berth and the server. */
  readonly proxy: FaultProxy;
}

/** Short troubles end before anything is given up; long ones do not. */
async function forAWhile(random: Random): Promise<void> {
  await Bun.sleep(random.chance(0.5) ? random.between(100, 1500) : random.between(5_000, 9_000));
}

export function databaseFaults({ server, proxy }: DatabasePlace): Fault[] {
  const { faults } = proxy;
  const during = (name: string, begin: () => void): Fault => ({
    name: `database: ${name}`,
    strike: async (random) => {
      begin();
      await forAWhile(random);
      faults.clear();
    },
  });
  return [
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
    during("latency", () => {
      faults.latencyMs.toServer = 60;
      faults.latencyMs.toClient = 60;
    }),
    during("narrow line", () => {
      faults.bytesPerSecond.toServer = 40_000;
      faults.bytesPerSecond.toClient = 40_000;
    }),
    during("reset after some kilobytes", () => {
      faults.resetAfterBytes = 20_000;
    }),
    during("ends half-way to the server", () => {
      faults.endAfterBytes.toServer = 10_000;
    }),
    during("ends half-way from the server", () => {
      faults.endAfterBytes.toClient = 10_000;
    }),
    {
      name: "database: answers to commits lost",
      strike: async (random) => {
        faults.loseAnswers = { text: "commit", times: random.between(3, 10) };
        await Bun.sleep(random.between(500, 2000));
        faults.clear();
      },
    },
    {
      name: "database: all connections reset",
      strike: async () => {
        proxy.resetAll();
      },
    },
    {
      name: "database: sessions ended by the administrator",
      strike: async () => {
        const admin = postgres(server.uri, { max: 1, onnotice: () => undefined });
        await admin`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'berth'`;
        await admin.end({ timeout: 5 });
      },
    },
    {
      name: "database: server frozen",
      strike: async (random) => {
        const frozen = processTree(server.pid());
        for (const pid of frozen) process.kill(pid, "SIGSTOP");
        await forAWhile(random);
        for (const pid of frozen) process.kill(pid, "SIGCONT");
      },
    },
    {
      name: "database: fast restart",
      strike: async () => {
        await server.shutDown("SIGINT");
        await server.restart();
      },
    },
    {
      name: "database: immediate stop, recovery",
      strike: async (random) => {
        await server.shutDown("SIGQUIT");
        await Bun.sleep(random.between(0, 2000));
        await server.restart();
      },
    },
    {
      name: "database: kill -9, recovery",
      strike: async (random) => {
        await server.crash();
        await Bun.sleep(random.between(0, 2000));
        await server.restart();
      },
    },
  ];
}
