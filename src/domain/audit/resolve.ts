/** From the names that notes carry to ids, for all notes of a batch at once and only when it is written. */

import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";

interface Named {
  readonly namespace?: { readonly id?: number | undefined; readonly name: string } | undefined;
  readonly performer?: { readonly id?: number | undefined; readonly name: string } | undefined;
  readonly repositoryPath?: string | undefined;
}

export interface ResolvedIds {
  account(name: string | undefined): number | undefined;
  repository(path: string | undefined): number | undefined;
}

export type ResolveNames = (notes: readonly Named[]) => Promise<ResolvedIds>;

/** What can be a name at all. Anything else was never in the database, and PostgreSQL takes no NUL. */
const LOOKS_LIKE_NAME = /^[a-z0-9._+/-]{1,511}$/;

export function createNameResolver(db: Db): ResolveNames {
  return async (notes) => {
    const accounts = new Set<string>();
    const paths = new Set<string>();
    for (const { namespace, performer, repositoryPath } of notes) {
      if (namespace && namespace.id === undefined) accounts.add(namespace.name);
      if (performer && performer.id === undefined) accounts.add(performer.name);
      if (repositoryPath !== undefined) paths.add(repositoryPath);
    }
    const accountIds = await findIds(db, "account", [...accounts].filter(isNameLike));
    const repositoryIds = await findIds(db, "repository", [...paths].filter(isNameLike));
    return {
      account: (name) => (name === undefined ? undefined : accountIds.get(name)),
      repository: (path) => (path === undefined ? undefined : repositoryIds.get(path)),
    };
  };
}

function isNameLike(text: string): boolean {
  return LOOKS_LIKE_NAME.test(text);
}

async function findIds(db: Db, table: "account" | "repository", names: string[]): Promise<Map<string, number>> {
  if (names.length === 0) return new Map();
  const rows =
    table === "account"
      ? await db.sql<{ id: number; name: string }>`/* audit.account_ids */
          select id, username as name from account where ${db.dialect.inList("username", names)} and deleted_ms is null`
      : await db.sql<{ id: number; name: string }>`/* audit.repository_ids */
          select id, path as name from repository where ${db.dialect.inList("path", names)} and deleted_ms is null`;
  return new Map(rows.map(({ id, name }) => [name, toNumber(id)]));
}
