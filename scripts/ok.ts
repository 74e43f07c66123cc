/** `bun run ok`: formatter, linter, types and unit tests side by side, in seconds. For every change, before its commit. */
import { closingLine, describeOutcome, type Part, runParts, testCommand, testFilesIn, toolCommand } from "./parts.ts";

/** Checks and unit tests, also the first parts of the full run. */
export function okParts(flags: readonly string[] = []): Part[] {
  const files = [...testFilesIn("src"), ...testFilesIn("scripts")];
  return [
    { name: "unit tests", command: testCommand(files, flags), isTest: true, timeoutSeconds: 300 },
    { name: "types", command: toolCommand("typescript/bin/tsc", "--noEmit"), isTest: false, timeoutSeconds: 120 },
    {
      name: "format and lint",
      command: toolCommand("@biomejs/biome/bin/biome", "check"),
      isTest: false,
      timeoutSeconds: 120,
    },
  ];
}

if (import.meta.main) {
  const parts = okParts(["--only-failures"]);
  const outcomes = await runParts(parts, parts.length, (outcome) => console.log(describeOutcome(outcome)));
  console.log(closingLine(outcomes));
  process.exitCode = outcomes.some(({ failed }) => failed > 0) ? 1 : 0;
}
