/** The picture that stands for an account, team or application in every list. Source: quay-api reference, section 1.4. */

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

/** The avatar kind of an account. */
export function accountAvatarKind(kind: "user" | "organization" | "robot"): AvatarKind {
  return kind === "organization" ? "org" : kind;
}
