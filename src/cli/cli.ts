/** The command line of `berth`: which command is meant, with which options, and the exit codes that tell what happened. */

import { type ParseArgsOptionsConfig, parseArgs } from "node:util";
import { ConfigError } from "../config/load.ts";
import { RegistryError } from "../errors.ts";
import { complain, type Environment, EXIT, type Invocation, UsageError } from "./invocation.ts";
import { SEAT_VARIABLE } from "./process-messages.ts";

interface Command {
  readonly summary: string;
  /** What follows the name beside options. */
  readonly words?: string;
  readonly options: ParseArgsOptionsConfig;
  /** Its own options with what they do; a word after the name of one that takes a value. */
  readonly help: Readonly<Record<string, string>>;
  /** For a command of commands: what --help prints instead. */
  readonly usage?: () => Promise<string>;
  run(invocation: Invocation): Promise<number>;
}

const COMMON: ParseArgsOptionsConfig = {
  config: { type: "string" },
  data: { type: "string" },
  help: { type: "boolean", short: "h" },
};

const COMMON_HELP: Readonly<Record<string, string>> = {
  "--config PATH": "a directory with config.yaml, or the file itself (BERTH_CONFIG)",
  "--data DIR": "where the embedded default keeps its data (./berth-data)",
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
    help: {
      "--listen ADDR:PORT": "where to listen, such as [::]:8080 or 127.0.0.1:0",
      "--metrics-listen ADDR:PORT|off": "where Prometheus finds metrics (port 9091)",
      "--processes N": "processes that share the port",
    },
    run: serve,
  },
  check: {
    summary: "validate the config and reach every service it names; with --running, ask the instance here",
    options: { running: { type: "boolean" }, listen: { type: "string" } },
    help: {
      "--running": "ask the instance on this machine for its health",
      "--listen ADDR:PORT": "with --running: where it listens",
    },
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
    usage: async () => `${(await import("./migrate-move.ts")).USAGE}\n`,
    help: {},
    run: async (invocation) => (await import("./migrate.ts")).migrateCommand(invocation),
  },
  user: {
    summary: "create, list and change users and robots",
    options: { email: { type: "string" }, role: { type: "string" }, "password-stdin": { type: "boolean" } },
    usage: async () => (await import("./user.ts")).USAGE,
    help: {},
    run: async (invocation) => (await import("./user.ts")).userCommand(invocation),
  },
  storage: {
    summary: "show, fill, copy and forget stores",
    options: { from: { type: "string" }, to: { type: "string" }, yes: { type: "boolean" } },
    usage: async () => (await import("./storage.ts")).USAGE,
    help: {},
    run: async (invocation) => (await import("./storage.ts")).storageCommand(invocation),
  },
  gc: {
    summary:
      "collect what nobody uses now; with --status, show what waits; with --dry-run, explain why one thing is kept",
    options: { status: { type: "boolean" }, "dry-run": { type: "string" }, json: { type: "boolean" } },
    help: {
      "--status": "what waits, what comes back when, and what was freed; changes nothing",
      "--dry-run THING": "why it is kept, or when it goes: NAMESPACE/REPOSITORY[:TAG|@DIGEST], or the digest of a blob",
      "--json": "the answer for programs",
    },
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
    help: {
      "--location NAME": "one store of DISTRIBUTED_STORAGE_CONFIG instead of all",
      "--blob DIGEST": "every copy of one blob instead of all blobs",
      "--bytes-per-second N": "read so much at most, such as 64Mi, or unlimited (SCRUB_BYTES_PER_SECOND)",
      "--status": "how the scrub stands and what is out of service; reads no blob",
      "--json": "the answer for programs",
    },
    run: async (invocation) => (await import("./scrub.ts")).scrubCommand(invocation),
  },
  worker: {
    summary: "background work alone, without a registry beside it",
    options: { "metrics-listen": { type: "string" } },
    words: "[storagereplication|gc|quota|scrub|maintenance…]",
    help: { "--metrics-listen ADDR:PORT": "where Prometheus finds metrics; off when left out" },
    run: async (invocation) => (await import("./worker.ts")).worker(invocation),
  },
  version: {
    summary: "print the version",
    options: {},
    help: {},
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
    if (values.help) return await commandUsage(name, command);
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
  if (error instanceof UsageError) return complain(`berth ${name}: ${message}`, EXIT.usage);
  // The parser goes on to tell how words that begin with a dash are written, of which no command has any.
  if (isBadOption) return complain(`berth ${name}: ${message.split(". ")[0]}; see berth ${name} --help`, EXIT.usage);
  const why = error instanceof Error && error.cause instanceof Error ? error.cause.message : "";
  const cause = why === "" || message.includes(why) ? "" : ` (${why})`;
  const code = error instanceof RegistryError && error.code === "unavailable" ? EXIT.unavailable : EXIT.failed;
  return complain(`berth ${name}: ${message}${cause}`, code);
}

/** Of one command: its words and options. */
async function commandUsage(name: string, { summary, words, help, usage }: Command): Promise<number> {
  if (usage) {
    process.stdout.write(await usage());
    return EXIT.ok;
  }
  const options = { ...help, ...COMMON_HELP };
  const width = Math.max(...Object.keys(options).map((option) => option.length));
  const lines = Object.entries(options).map(([option, does]) => `  ${option.padEnd(width)}  ${does}`);
  const head = ["usage: berth", name, ...(words ? [words] : []), "[options]"].join(" ");
  process.stdout.write(`${[head, "", `  ${summary}`, "", "options:", ...lines].join("\n")}\n`);
  return EXIT.ok;
}

function usage(code: number): number {
  const lines = Object.entries(COMMANDS).map(([name, { summary }]) => `  ${name.padEnd(9)} ${summary}`);
  const options = Object.entries(COMMON_HELP).map(([option, does]) => `  ${option.padEnd(13)}  ${does}`);
  const more = "berth COMMAND --help tells the options of a command.";
  const text = `${["usage: berth COMMAND [options]", "", ...lines, "", "options of all:", ...options, "", more].join("\n")}\n`;
  (code === EXIT.ok ? process.stdout : process.stderr).write(text);
  return code;
}
