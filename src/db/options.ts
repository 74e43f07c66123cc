/** What both engines take when they are opened, beside their address. */

export interface DatabaseLog {
  info(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
}

export interface DatabaseHooks {
  readonly log?: DatabaseLog | undefined;
  /** Called after every query with its name and how long it took, for metrics. Must not throw. */
  readonly observe?: ((name: string, durationMs: number, failed: boolean) => void) | undefined;
}

export const silentLog: DatabaseLog = { info: () => undefined, warn: () => undefined };
