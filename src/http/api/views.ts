/** Shapes that many answers share: dates, avatars, and their schemas. Source: quay-api reference, section 1.4. */

import { z } from "zod";

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"] as const;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"] as const;

/** RFC 2822 in UTC as Quay writes it: `Tue, 09 Jan 2024 12:00:00 -0000`. */
export function httpDate(ms: number): string {
  const date = new Date(ms);
  const two = (value: number) => String(value).padStart(2, "0");
  const day = `${DAYS[date.getUTCDay()]}, ${two(date.getUTCDate())} ${MONTHS[date.getUTCMonth()]} ${date.getUTCFullYear()}`;
  return `${day} ${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())} -0000`;
}

export const httpDateSchema = () =>
  z.string().regex(/^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d -0000$/);

/** ISO 8601 in UTC, to the second: what Quay writes in the parts that came late. */
export function isoDate(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

export const isoDateSchema = () => z.string().regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);

export type AvatarKind = "user" | "org" | "team" | "robot" | "app";

export interface Avatar {
  readonly name: string;
  readonly hash: string;
  readonly color: string;
  readonly kind: AvatarKind;
}

/** Thirty-two colours, told apart on light and dark ground. */
const COLORS = [
  "#1f77b4", "#aec7e8", "#ff7f0e", "#ffbb78", "#2ca02c", "#98df8a", "#d62728", "#ff9896",
  "#9467bd", "#c5b0d5", "#8c564b", "#c49c94", "#e377c2", "#f7b6d2", "#7f7f7f", "#c7c7c7",
  "#bcbd22", "#dbdb8d", "#17becf", "#9edae5", "#393b79", "#5254a3", "#6b6ecf", "#9c9ede",
  "#637939", "#8ca252", "#b5cf6b", "#cedb9c", "#8c6d31", "#bd9e39", "#e7ba52", "#e7cb94",
] as const; // biome-ignore format: a table

/** The picture that stands for an account, team or application: a hash of its e-mail address or name, and a colour. */
export function avatar(kind: AvatarKind, name: string, email?: string | null): Avatar {
  const hash = new Bun.CryptoHasher("sha256").update((email || name).trim().toLowerCase()).digest("hex");
  return { name, hash, color: COLORS[Number.parseInt(hash.slice(0, 8), 16) % COLORS.length] ?? COLORS[0], kind };
}

export const avatarSchema = () =>
  z.strictObject({
    name: z.string(),
    hash: z.string().regex(/^[0-9a-f]{64}$/),
    color: z.string().regex(/^#[0-9a-f]{6}$/),
    kind: z.enum(["user", "org", "team", "robot", "app"]),
  });

/** The avatar kind of an account. */
export function accountAvatarKind(kind: "user" | "organization" | "robot"): AvatarKind {
  return kind === "organization" ? "org" : kind;
}

/** A boolean in a query, as Quay reads it: `true`, `1`, `yes`, or the bare name. */
export const queryBool = (preset: boolean) =>
  z
    .string()
    .optional()
    .transform((text) => (text === undefined ? preset : ["", "true", "1", "yes", "on"].includes(text.toLowerCase())));
