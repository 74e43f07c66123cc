/** What a config can be refused for. All problems are found before one is reported, so that one round of edits is enough. */

export interface ConfigProblem {
  /** Path of the offending value, `DB_CONNECTION_ARGS.sslmode`, or the file that could not be read. */
  readonly key: string;
  /** A whole sentence for the operator: key, value (never a secret) and what would be right. */
  readonly message: string;
}

/** Thrown by the loader; the command line prints every problem and exits with 78 (EX_CONFIG). */
export class ConfigError extends Error {
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[], cause?: unknown) {
    const texts = problems.map((problem) => problem.message);
    super(`the configuration cannot be used: ${texts.join(" · ")}`, cause === undefined ? undefined : { cause });
    this.name = "ConfigError";
    this.problems = problems;
  }
}
