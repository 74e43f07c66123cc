/** Shapes that many answers share: dates, avatars, and their schemas. Source: quay-api reference, section 1.4. */

import { z } from "zod";

export { type Avatar, type AvatarKind, accountAvatarKind, avatar } from "../../domain/user/avatar.ts";
export { httpDate } from "../../lib/http-date.ts";

export const httpDateSchema = () =>
  z.string().regex(/^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d -0000$/);

/** ISO 8601 in UTC, to the second: what Quay writes in the parts that came late. */
export function isoDate(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

export const isoDateSchema = () => z.string().regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);

export const avatarSchema = () =>
  z.strictObject({
    name: z.string(),
    hash: z.string().regex(/^[0-9a-f]{64}$/),
    color: z.string().regex(/^#[0-9a-f]{6}$/),
    kind: z.enum(["user", "org", "team", "robot", "app"]),
  });

/** A boolean in a query, as Quay reads it: `true`, `1`, `yes`, or the bare name. */
export const queryBool = (preset: boolean) =>
  z
    .string()
    .optional()
    .transform((text) => (text === undefined ? preset : ["", "true", "1", "yes", "on"].includes(text.toLowerCase())));
