/**
 * Addresses that agreed to be told of events of a repository: an admin asks, a mail goes out, and whoever reads it confirms.
 * The row keeps the hash of the code alone. Source: quay-api reference, sections 7 and 10.
 */

import type { App } from "../../app.ts";
import { toBoolean } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { randomText } from "../../lib/random.ts";
import { parseEmail } from "../../oci/names.ts";
import type { Principal } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { sendRepositoryAuthorization } from "../mail/mail.ts";

/** 40 of 36 characters: 207 bits, so that nobody guesses one. */
const CODE_CHARS = 40;
/** A code in a mailbox is good for this long; after that the admin asks again. */
const CODE_LIFE_MS = 7 * 24 * 3600 * 1000;
/** Addresses of one repository: more are a mailing list, and a way to send mail to strangers. */
const ADDRESSES_MAX = 100;

export interface AuthorizedEmail {
  readonly email: string;
  readonly confirmed: boolean;
}

/** Undefined when nobody asked for this address. */
export async function findAuthorizedEmail(
  app: Pick<App, "db">,
  repository: RepositoryFacts,
  email: string,
): Promise<AuthorizedEmail | undefined> {
  const [row] = await app.db.sql<{ email: string; confirmed: unknown }>`/* authorized_email.find */
    select email, confirmed from authorized_email where repository_id = ${repository.id} and email = ${email}`;
  return row && { email: row.email, confirmed: toBoolean(row.confirmed) };
}

/**
 * Asks the address for its consent by mail; one that has confirmed is not asked again. Throws `invalid_request` for what is
 * no address or beyond the bound, `mail_failed` when the mail did not go out: asking again sends another.
 */
export async function requestEmailAuthorization(
  app: Pick<App, "config" | "db" | "clock" | "mailer">,
  principal: Principal,
  repository: RepositoryFacts,
  text: string,
): Promise<AuthorizedEmail> {
  const email = parseEmail(text);
  const code = randomText(CODE_CHARS);
  const isAsked = await app.db.tx(async (tx) => {
    const rows = await tx.sql<{ email: string; confirmed: unknown }>`/* authorized_email.list */
      select email, confirmed from authorized_email where repository_id = ${repository.id} limit ${ADDRESSES_MAX}`;
    const known = rows.find((row) => row.email === email);
    if (known && toBoolean(known.confirmed)) return false;
    if (!known && rows.length >= ADDRESSES_MAX) {
      throw new RegistryError("invalid_request", {
        message: `"${repository.path}" has ${ADDRESSES_MAX} addresses already, which is the most`,
      });
    }
    await tx.sql`/* authorized_email.put */
      insert into authorized_email (repository_id, email, code_hash, created_ms)
      values (${repository.id}, ${email}, ${hashOf(code)}, ${app.clock.nowMs()})
      on conflict (repository_id, email) do update
      set code_hash = excluded.code_hash, created_ms = excluded.created_ms`;
    return true;
  });
  const { username } = principal;
  if (isAsked) await sendRepositoryAuthorization(app, { to: email, username, repository: repository.path, code });
  return { email, confirmed: !isAsked };
}

/**
 * What the link in the mail does: the address counts as confirmed. Gives the repository's full name and the address; throws
 * `invalid_request` for a code that is wrong, too old or of a repository that is gone. A link opened twice is no error.
 */
export async function confirmRepositoryEmail(
  app: Pick<App, "db" | "clock">,
  code: string,
): Promise<{ repository: string; email: string }> {
  return app.db.tx(async (tx) => {
    const [row] = await tx.sql<{ id: number; path: string; email: string }>`/* authorized_email.by_code */
      select r.id, r.path, e.email from authorized_email e join repository r on r.id = e.repository_id
      where e.code_hash = ${hashOf(code)} and r.deleted_ms is null
        and (e.confirmed = true or e.created_ms > ${app.clock.nowMs() - CODE_LIFE_MS})`;
    if (!row) throw new RegistryError("invalid_request", { message: "Invalid or expired confirmation code" });
    await tx.sql`/* authorized_email.confirm */
      update authorized_email set confirmed = true where repository_id = ${row.id} and email = ${row.email}`;
    return { repository: row.path, email: row.email };
  });
}

function hashOf(code: string): string {
  return new Bun.CryptoHasher("sha256").update(code).digest("hex");
}
