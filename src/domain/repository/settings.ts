/** What an existing repository is: its description, who sees it, which changes it takes. Each change is in the action log. */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import type { Caller } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { type ActionMetadata, logAction, type RequestOrigin } from "../audit/audit.ts";
import type { ActionKind } from "../audit/kinds.ts";
import { repositoryKey } from "../lookup/lookup.ts";
import { requireDescription } from "./create.ts";
import { setState, setVisibility } from "./repository.ts";

type SettingsApp = Pick<App, "db" | "clock">;

/** Who changes which repository, with the right checked before. */
export interface Change {
  readonly caller: Caller;
  readonly repository: RepositoryFacts;
  readonly request: RequestOrigin;
}

/** Throws `invalid_request` for one beyond the bound. */
export async function changeDescription(app: SettingsApp, change: Change, description: string): Promise<void> {
  requireDescription(description);
  await inChange(app, change, { kind: "set_repo_description", metadata: { description } }, async (tx) => {
    await tx.sql`/* repository.set_description */
      update repository set description = ${description} where id = ${change.repository.id}`;
  });
}

export async function changeVisibility(
  app: SettingsApp,
  change: Change,
  visibility: "public" | "private",
): Promise<void> {
  await inChange(app, change, { kind: "change_repo_visibility", metadata: { visibility } }, (tx) =>
    setVisibility(tx, change.repository.id, visibility),
  );
}

/** The states that an admin may choose. */
export const CHOSEN_STATES = ["NORMAL", "READ_ONLY", "MIRROR"] as const;

export async function changeState(
  app: SettingsApp,
  change: Change,
  state: (typeof CHOSEN_STATES)[number],
): Promise<void> {
  await inChange(app, change, { kind: "change_repo_state", metadata: { state_changed: state } }, (tx) =>
    setState(tx, change.repository.id, state),
  );
}

/** FEATURE_SIGNING: kept and shown; nothing is signed with it. */
export async function changeTrust(app: SettingsApp, change: Change, trustEnabled: boolean): Promise<void> {
  await inChange(app, change, { kind: "change_repo_trust", metadata: { trust_enabled: trustEnabled } }, async (tx) => {
    await tx.sql`/* repository.set_trust */
      update repository set trust_enabled = ${trustEnabled} where id = ${change.repository.id}`;
  });
}

/**
 * Runs a change with its log entry in one transaction. A repository that was deleted since the caller was let in is
 * `not_found`: its row is locked against that until the commit.
 */
export async function inChange(
  app: SettingsApp,
  change: Change,
  entry: { kind: ActionKind; metadata: ActionMetadata },
  work: (tx: Tx, nowMs: number) => Promise<void>,
): Promise<void> {
  const { caller, repository, request } = change;
  await app.db.tx(async (tx) => {
    const nowMs = app.clock.nowMs();
    const rows = await tx.sql`/* repository.lock */
      select id from repository where id = ${repository.id} and deleted_ms is null ${tx.dialect.forUpdate}`;
    if (rows.length === 0) throw new RegistryError("not_found");
    await work(tx, nowMs);
    const { id: repositoryId, namespaceId, name: repo, namespace } = repository;
    const metadata = { repo, namespace, ...entry.metadata };
    await logAction(tx, { kind: entry.kind, caller, namespaceId, repositoryId, request, nowMs, metadata });
    tx.changed(repositoryKey(repository.id));
  });
}
