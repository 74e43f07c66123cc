/** What the tests of repositories share: repositories made through the API, teams made in the database, and the log. */

import { expect } from "bun:test";
import { toNumber } from "../../src/db/decode.ts";
import type { Registry } from "../registry/harness.ts";
import type { ApiAnswer, ApiClient } from "./harness.ts";

/** Creates `namespace/name` through the API. */
export async function create(
  client: ApiClient,
  path: string,
  fields: { visibility?: "public" | "private"; description?: string; repo_kind?: "image" | "application" } = {},
): Promise<void> {
  const [namespace, ...rest] = path.split("/");
  const answer = await client.post("/repository", {
    namespace,
    repository: rest.join("/"),
    visibility: "private",
    description: "",
    ...fields,
  });
  expect([path, answer.status, answer.text]).toEqual([path, 201, expect.any(String)]);
}

/** A team of an organization with these members. */
export async function makeTeam(
  registry: Registry,
  organization: string,
  name: string,
  role: "member" | "creator" | "admin",
  members: readonly string[],
): Promise<void> {
  const organizationId = await registry.accountId(organization);
  const memberIds = await Promise.all(members.map((member) => registry.accountId(member)));
  await registry.app.db.tx(async (tx) => {
    const [row] = await tx.sql<{ id: number }>`/* test.team */
      insert into team (organization_id, name, role, created_ms)
      values (${organizationId}, ${name}, ${role}, ${Date.now()}) returning id`;
    for (const id of memberIds) {
      await tx.sql`/* test.member */ insert into team_member (team_id, account_id) values (${toNumber(row?.id)}, ${id})`;
    }
    tx.changed("everything");
  });
  await Bun.sleep(260);
}

/** Full names of a list's or search's repositories. */
export function pathsOf(answer: ApiAnswer): string[] {
  const rows: { namespace: string | { name: string }; name: string }[] =
    answer.body.repositories ?? answer.body.results ?? [];
  return rows.map(({ namespace, name }) => `${typeof namespace === "string" ? namespace : namespace.name}/${name}`);
}

/**
 * What the log tells was changed of one repository name, oldest first. Pulls are written about a second after they were
 * answered, before or after the changes that follow them, and are left out.
 */
export async function logsOf(
  registry: Registry,
  name: string,
): Promise<{ kind: string; metadata: Record<string, unknown> }[]> {
  const rows = await registry.app.db.sql<{ kind: string; metadata: string }>`/* test.logs */
    select kind, metadata from action_log where kind <> 'pull_repo' order by id`;
  return rows
    .map(({ kind, metadata }) => ({ kind, metadata: JSON.parse(metadata) as Record<string, unknown> }))
    .filter(({ metadata }) => metadata.repo === name);
}
