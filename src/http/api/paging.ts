/** Paging tokens: what a list needs to go on, sealed so that nobody builds on its inside. Good for two days. */

import type { z } from "zod";
import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";

export type PageApp = Pick<App, "pageTokens" | "clock">;

/** Source: quay-api reference, section 1.4. */
const LIFE_MS = 2 * 24 * 3600 * 1000;
const TOKEN_CHARS_MAX = 4096;

/** `next_page` for a list that goes on after `position`; `list` names the list, so that a token is good for it alone. */
export function sealPage(app: PageApp, list: string, position: unknown): string {
  return app.pageTokens.seal(JSON.stringify({ list, position, untilMs: app.clock.nowMs() + LIFE_MS }));
}

/** The position in a `next_page`; undefined for the first page. Throws `invalid_request` for what is not ours or too old. */
export function openPage<S extends z.ZodType>(
  app: PageApp,
  list: string,
  token: string | null | undefined,
  schema: S,
): z.output<S> | undefined {
  if (token === undefined || token === null || token === "") return undefined;
  const opened = token.length > TOKEN_CHARS_MAX ? undefined : tryOpen(app, token);
  const isOurs = opened?.list === list && typeof opened.untilMs === "number" && opened.untilMs > app.clock.nowMs();
  const position = isOurs ? schema.safeParse(opened.position) : undefined;
  if (!position?.success) throw new RegistryError("invalid_request", { message: "Invalid or expired next_page token" });
  return position.data;
}

function tryOpen(app: PageApp, token: string): { list?: unknown; position?: unknown; untilMs?: unknown } | undefined {
  try {
    return JSON.parse(app.pageTokens.open(token));
  } catch {
    return undefined;
  }
}
