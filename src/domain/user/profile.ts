/** A user's own facts, as its account page shows them. Changing them is `edit-user.ts`. */

import type { Db } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";

/** What a user is asked at its next visit. Source: quay-api reference, section 2.1. */
export const PROMPTS = ["confirm_username", "enter_name", "enter_company"] as const;
export type Prompt = (typeof PROMPTS)[number];

export interface Profile {
  readonly id: number;
  readonly username: string;
  readonly email: string | undefined;
  readonly verified: boolean;
  readonly hasPassword: boolean;
  /** Made a superuser through the API. */
  readonly promoted: boolean;
  readonly prompts: readonly Prompt[];
  /** The time machine's window of its namespace. */
  readonly tagExpirationSeconds: number;
  /** Whether invoices are mailed: kept for Quay's clients, nothing is ever billed. */
  readonly invoiceEmail: boolean;
  readonly invoiceEmailAddress: string | undefined;
  readonly givenName: string | undefined;
  readonly familyName: string | undefined;
  readonly company: string | undefined;
  readonly location: string | undefined;
}

interface ProfileRow {
  id: number;
  username: string;
  email: string | null;
  verified: unknown;
  password_hash: string | null;
  superuser: unknown;
  prompts: string;
  tag_expiration_s: number;
  invoice_email: unknown;
  invoice_email_address: string | null;
  given_name: string | null;
  family_name: string | null;
  company: string | null;
  location: string | null;
}

const selectProfile = (db: Db) => db.sql`
  select id, username, email, verified, password_hash, superuser, prompts, tag_expiration_s, invoice_email,
         invoice_email_address, given_name, family_name, company, location
  from account`;

/** The living user with this name, undefined when there is none. */
export async function findProfile(db: Db, username: string): Promise<Profile | undefined> {
  const [row] = await db.sql<ProfileRow>`/* profile.by_name */ ${selectProfile(db)}
    where username = ${username} and kind = 'user' and deleted_ms is null`;
  return row && decode(row);
}

/** The living user with this id, undefined when there is none. With `lock`, nobody else changes it meanwhile. */
export async function findProfileById(db: Db, id: number, lock = false): Promise<Profile | undefined> {
  const [row] = await db.sql<ProfileRow>`/* profile.by_id */ ${selectProfile(db)}
    where id = ${id} and kind = 'user' and deleted_ms is null ${lock ? db.dialect.forUpdate : db.sql``}`;
  return row && decode(row);
}

function decode(row: ProfileRow): Profile {
  return {
    id: toNumber(row.id),
    username: row.username,
    email: row.email ?? undefined,
    verified: toBoolean(row.verified),
    hasPassword: row.password_hash !== null,
    promoted: toBoolean(row.superuser),
    prompts: readPrompts(row.prompts),
    tagExpirationSeconds: toNumber(row.tag_expiration_s),
    invoiceEmail: toBoolean(row.invoice_email),
    invoiceEmailAddress: row.invoice_email_address ?? undefined,
    givenName: row.given_name ?? undefined,
    familyName: row.family_name ?? undefined,
    company: row.company ?? undefined,
    location: row.location ?? undefined,
  };
}

function readPrompts(text: string): Prompt[] {
  const parsed: unknown = JSON.parse(text);
  return Array.isArray(parsed) ? PROMPTS.filter((prompt) => parsed.includes(prompt)) : [];
}
