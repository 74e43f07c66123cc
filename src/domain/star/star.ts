/** Stars: the repositories a user wants at hand. Listing them is `domain/repository/list.ts`, with what is still visible. */

import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import type { ParsedRepositoryPath } from "../../oci/names.ts";
import type { Caller, Principal } from "../access/actor.ts";
import { requireRepositoryRole } from "../access/require.ts";

/** Most stars of one account: a list of favourites, and a bound on what its lists cost. */
const STARS_MAX = 10_000;

/**
 * Stars a repository that the caller may read; a second time changes nothing. Throws as `requireRepositoryRole`, and
 * `invalid_request` beyond the bound.
 */
export async function starRepository(
  app: Pick<App, "config" | "db" | "lookup" | "clock">,
  caller: Caller,
  principal: Principal,
  parsed: ParsedRepositoryPath,
): Promise<void> {
  const repository = await requireRepositoryRole(app, caller, parsed, "read");
  await app.db.tx(async (tx) => {
    const rows = await tx.sql`/* star.is_full */
      select 1 as one from star where account_id = ${principal.accountId} limit 1 offset ${STARS_MAX - 1}`;
    if (rows.length > 0) {
      throw new RegistryError("invalid_request", { message: `You have ${STARS_MAX} stars: remove one to add another` });
    }
    // The row is there only as long as the repository is: a deletion that was faster leaves nothing to star.
    await tx.sql`/* star.insert */
      insert into star (account_id, repository_id, created_ms)
      select cast(${principal.accountId} as bigint), id, cast(${app.clock.nowMs()} as bigint)
      from repository where id = ${repository.id} and deleted_ms is null
      on conflict do nothing`;
  });
}

/** Takes a star away, also of a repository that the caller may not read any more; one that is not there is no error. */
export async function unstarRepository(
  app: Pick<App, "db">,
  principal: Principal,
  parsed: ParsedRepositoryPath,
): Promise<void> {
  await app.db.tx(async (tx) => {
    await tx.sql`/* star.delete */
      delete from star where account_id = ${principal.accountId}
        and repository_id = (select id from repository where path = ${parsed.path} and deleted_ms is null)`;
  });
}
