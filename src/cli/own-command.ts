/** The command line that this process was started with, to start the same program once more. */

/** Program and arguments: Bun with the script, or the single binary alone. */
export function ownCommand(): string[] {
  // In a single binary argv[1] is a path inside it, which must not come back as an argument.
  const isBinary = process.argv[1]?.startsWith("/$bunfs/") === true;
  return [process.execPath, ...process.execArgv, ...process.argv.slice(isBinary ? 2 : 1)];
}
