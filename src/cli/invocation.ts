/** What a command gets from the command line and what it gives back: shared by every file in cli/. */

/** As in sysexits.h, so that service managers can tell a wrong config from a crash. */
export const EXIT = { ok: 0, failed: 1, usage: 64, unavailable: 69, config: 78, interrupted: 130 } as const;

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Invocation {
  readonly options: Readonly<Record<string, string | boolean | undefined>>;
  readonly positionals: readonly string[];
  readonly env: Environment;
}

/** The command line itself is wrong: ends with 64. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Says what is wrong on stderr and gives the exit code back. */
export function complain(text: string, code: number): number {
  process.stderr.write(`${text}\n`);
  return code;
}
