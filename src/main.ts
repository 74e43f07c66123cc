/** Process entry: reads argv and hands over to one file in cli/. */

import { growThreadPool } from "./cli/thread-pool.ts";

const argv = process.argv.slice(2);
if (argv[0] === "serve" || argv[0] === "worker") growThreadPool(process.env);
// Loaded only now: what would be loaded before starting again would be loaded twice.
const { runCli } = await import("./cli/cli.ts");
process.exitCode = await runCli(argv, process.env);
