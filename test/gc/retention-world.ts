/**
 * What tests of retention do: namespaces with policies, pulls that are waited for, and pruning when the test says so, on a
 * registry whose own worker does not look.
 */

import { expect } from "bun:test";
import type { Database } from "../../src/db/db.ts";
import { pruneNext } from "../../src/domain/autoprune/prune.ts";
import type { ApiClient } from "../api/harness.ts";
import type { RegistryClient } from "../support/registry-client.ts";
import { type GcWorld, startGcWorld } from "./world.ts";

export class RetentionWorld {
  readonly gc: GcWorld;
  readonly db: Database;
  readonly client: RegistryClient;
  readonly su: ApiClient;
  #organizations = 0;

  private constructor(gc: GcWorld, su: ApiClient) {
    this.gc = gc;
    this.db = gc.api.app.db;
    this.client = gc.api.admin;
    this.su = su;
  }

  static async start(): Promise<RetentionWorld> {
    // The server's own worker looks once in a day.
    const gc = await startGcWorld({ FEATURE_AUTO_PRUNE: true, GARBAGE_COLLECTION_FREQUENCY: 86_400 });
    return new RetentionWorld(gc, await gc.api.as("admin"));
  }

  async organization(): Promise<string> {
    const name = `retention${++this.#organizations}`;
    expect((await this.su.post("/organization/", { name, email: `${name}@example.com` })).status).toBe(201);
    return name;
  }

  async policy(at: string, rule: Record<string, unknown>): Promise<void> {
    const answer = await this.su.post(`${at}/autoprunepolicy/`, rule);
    expect([answer.status, answer.text]).toEqual([201, answer.text]);
  }

  /** Prunes all that is due, also what still gathers pushes. */
  async prune(on: Database = this.db): Promise<void> {
    await this.db.sql`/* test.gathered */ update prune_repository set due_ms = due_ms - 20000 where due_ms > 20000`;
    while (await pruneNext({ ...this.gc.api.app, db: on }));
  }

  /** Living tags of a namespace as `repository:name`, sorted. */
  async living(namespace: string): Promise<string[]> {
    const rows = await this.db.sql<{ name: string; repository: string }>`/* test.living */
      select t.name, r.name as repository from tag t join repository r on r.id = t.repository_id
      join account a on a.id = r.namespace_id
      where a.username = ${namespace} and t.end_ms is null and t.hidden = false`;
    return rows.map((row) => `${row.repository}:${row.name}`).sort();
  }

  /** Pulls by the references, and waits until that is written. */
  async pull(path: string, ...references: string[]): Promise<void> {
    const before = await this.pullsOf(path);
    for (const reference of references) expect((await this.client.pullManifest(path, reference)).status).toBe(200);
    while ((await this.pullsOf(path)) < before + references.length) await Bun.sleep(50);
  }

  /** Pulls of a repository that are written. */
  async pullsOf(path: string): Promise<number> {
    const [row] = await this.db.sql<{ n: number | null }>`/* test.pulls */
      select cast(sum(p.pull_count) as bigint) as n from manifest_pull p join repository r on r.id = p.repository_id
      where r.path = ${path}`;
    return Number(row?.n ?? 0);
  }

  async repositoryId(path: string): Promise<number> {
    const [row] = await this.db.sql<{
      id: number;
    }>`/* test.repository */ select id from repository where path = ${path}`;
    return Number(row?.id);
  }

  async appointment(path: string): Promise<{ dueMs: number; pullsDueMs: number } | undefined> {
    const [row] = await this.db.sql<{ due_ms: number; pulls_due_ms: number }>`/* test.due */
      select p.due_ms, p.pulls_due_ms from prune_repository p join repository r on r.id = p.repository_id
      where r.path = ${path}`;
    return row && { dueMs: Number(row.due_ms), pullsDueMs: Number(row.pulls_due_ms) };
  }

  async deleteTag(path: string, tag: string): Promise<void> {
    const scope = `repository:${path}:delete`;
    await this.client.request(`/v2/${path}/manifests/${tag}`, { method: "DELETE", scope });
  }
}
