/** The command line of `berth`: which command is meant, with which options, and the exit codes that tell what happened. */

import { type ParseArgsOptionsConfig, parseArgs } from "node:util";
import { ConfigError } from "../config/load.ts";
import { RegistryError } from "../errors.ts";
import { complain, type Environment, EXIT, type Invocation, UsageError } from "./invocation.ts";
import { SEAT_VARIABLE } from "./process-messages.ts";

interface Command {
  readonly summary: string;
  readonly options: ParseArgsOptionsConfig;
  run(invocation: Invocation): Promise<number>;
}

const COMMON: ParseArgsOptionsConfig = {
  config: { type: "string" },
  data: { type: "string" },
  help: { type: "boolean", short: "h" },
};

/** Each command's file is loaded when it is called: `berth version` should not open a database library. */
const COMMANDS: Record<string, Command> = {
  serve: {
    summary: "the registry and its background work",
    options: {
      listen: { type: "string" },
      "metrics-listen": { type: "string" },
      processes: { type: "string" },
    },
    run: serve,
  },
  check: {
    summary: "validate the config and reach every service it names; with --running, ask the instance here",
    options: { running: { type: "boolean" }, listen: { type: "string" } },
    run: async (invocation) => (await import("./check.ts")).check(invocation),
  },
  migrate: {
    summary: "bring the database's schema up to date; with --from and --to, move to another database",
    options: {
      from: { type: "string" },
      to: { type: "string" },
      check: { type: "boolean" },
      reopen: { type: "boolean" },
    },
    run: async (invocation) => (await import("./migrate.ts")).migrateCommand(invocation),
  },
  user: {
    summary: "create, list and change users and robots",
    options: { email: { type: "string" }, role: { type: "string" }, "password-stdin": { type: "boolean" } },
    run: async (invocation) => (await import("./user.ts")).userCommand(invocation),
  },
  storage: {
    summary: "show, fill, copy and forget stores",
    options: { from: { type: "string" }, to: { type: "string" }, yes: { type: "boolean" } },
    run: async (invocation) => (await import("./storage.ts")).storageCommand(invocation),
  },
  gc: {
    summary:
      "collect what nobody uses now; with --status, show what waits; with --dry-run, explain why one thing is kept",
    options: { status: { type: "boolean" }, "dry-run": { type: "string" }, json: { type: "boolean" } },
    run: async (invocation) => (await import("./gc.ts")).gcCommand(invocation),
  },
  scrub: {
    summary: "compare stored blobs with their digests now, and repair what is bad; with --status, show how it stands",
    options: {
      location: { type: "string" },
      "bytes-per-second": { type: "string" },
      blob: { type: "string" },
      status: { type: "boolean" },
      json: { type: "boolean" },
    },
    run: async (invocation) => (await import("./scrub.ts")).scrubCommand(invocation),
  },
  worker: {
    summary: "background work alone, without a registry beside it",
    options: { "metrics-listen": { type: "string" } },
    run: async (invocation) => (await import("./worker.ts")).worker(invocation),
  },
  version: {
    summary: "print the version",
    options: {},
    run: async () => (await import("./version.ts")).printVersion(),
  },
};

/** Commands of the finished product that later issues bring. */
const LATER = ["config", "backup", "restore", "import"];

/** The parent of several processes needs next to nothing of what they load. */
async function serve(invocation: Invocation): Promise<number> {
  const { processCount, serveWithProcesses } = await import("./processes.ts");
  const count = processCount(invocation);
  const isChild = invocation.env[SEAT_VARIABLE] !== undefined;
  if (count > 1 && !isChild) return serveWithProcesses(count, invocation);
  return (await import("./serve.ts")).serve(invocation);
}

/** Runs one command and gives its exit code. Everything it has to say of errors goes to stderr. */
export async function runCli(argv: readonly string[], env: Environment): Promise<number> {
  const [name = "", ...rest] = argv;
  if (name === "" || name === "help" || name === "--help" || name === "-h")
    return usage(name === "" ? EXIT.usage : EXIT.ok);
  if (name === "--version") return runCli(["version"], env);
  if (LATER.includes(name)) return complain(`berth ${name}: not in this build yet`, EXIT.usage);
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!command)
    return complain(`berth: unknown command "${name}", use one of ${Object.keys(COMMANDS).join(", ")}`, EXIT.usage);
  try {
    const options = { ...COMMON, ...command.options };
    const { values, positionals } = parseArgs({ args: rest, options, allowPositionals: true });
    if (values.help) return usage(EXIT.ok);
    return await command.run({ options: values as Invocation["options"], positionals, env });
  } catch (error) {
    return explain(name, error);
  }
}

function explain(name: string, error: unknown): number {
  if (error instanceof ConfigError) {
    for (const { key, message } of error.problems) {
      process.stderr.write(`config: ${message.startsWith(key) ? message : `${key}: ${message}`}\n`);
    }
    return EXIT.config;
  }
  const message = error instanceof Error ? error.message : String(error);
  const isBadOption = error instanceof TypeError && "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS");
  if (isBadOption || error instanceof UsageError) return complain(`berth ${name}: ${message}`, EXIT.usage);
  const cause = error instanceof Error && error.cause instanceof Error ? ` (${error.cause.message})` : "";
  const code = error instanceof RegistryError && error.code === "unavailable" ? EXIT.unavailable : EXIT.failed;
  return complain(`berth ${name}: ${message}${cause}`, code);
}

function usage(code: number): number {
  const lines = Object.entries(COMMANDS).map(([name, { summary }]) => `  ${name.padEnd(9)} ${summary}`);
  const text = [
    "usage: berth COMMAND [options]",
    "",
    ...lines,
    "",
    "options:",
    "  --config PATH           a directory with config.yaml, or the file itself (BERTH_CONFIG)",
    "  --data DIR              where the embedded default keeps its data (./berth-data)",
    "  --listen ADDR:PORT      serve: where to listen, such as [::]:8080 or 127.0.0.1:0",
    "  --metrics-listen ADDR:PORT|off",
    "  --processes N           serve: processes that share the port",
    "",
  ].join("\n");
  (code === EXIT.ok ? process.stdout : process.stderr).write(`${text}`);
  return code;
}
