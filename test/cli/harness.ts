/** A running Berth whose logs, data and database the tests of this folder share with `berth` commands beside it. */
import { type BerthServer, startBerth } from "../support/berth.ts";
import { chooseServerDatabase } from "../support/database.ts";
import { type CommandResult, runBerth } from "./command.ts";

export interface Served {
  readonly berth: BerthServer;
  /** Runs a command on the same data, as an operator beside the running server would. */
  run(args: readonly string[], stdin?: string): Promise<CommandResult>;
  stop(): Promise<void>;
}

/** Starts the zero-config registry, on the engine that TEST_DB names. */
export async function serveWithCommands(): Promise<Served> {
  const database = await chooseServerDatabase();
  const env: Record<string, string> =
    database === "sqlite" ? {} : { QUAY_OVERRIDE_CONFIG: JSON.stringify({ DB_URI: database }) };
  const berth = await startBerth({ database, env });
  return {
    berth,
    run: (args, stdin) =>
      runBerth([...args, "--data", berth.dataDir], {
        cwd: berth.dataDir,
        env,
        ...(stdin === undefined ? {} : { stdin }),
      }),
    stop: () => berth.stop(),
  };
}

/** Waits until `probe` gives true. What one process commits another hears within 200 ms; a second is promised. */
export async function within(timeoutMs: number, probe: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    if (await probe()) return;
    if (performance.now() > deadline) throw new Error(`not so within ${timeoutMs} ms`);
    await Bun.sleep(20);
  }
}
