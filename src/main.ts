/** Process entry: reads argv and hands over to one file in cli/. */

import { runCli } from "./cli/cli.ts";

process.exitCode = await runCli(process.argv.slice(2), process.env);
