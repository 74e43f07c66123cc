/** CREATE_NAMESPACE_ON_PUSH: who makes an organization by pushing, and who leaves nothing behind by trying. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { findAccount } from "../../src/domain/user/account.ts";
import { image, publish } from "../support/content.ts";
import { password, type Registry, startRegistry } from "./harness.ts";

let registry: Registry;

beforeAll(async () => {
  registry = await startRegistry({ CREATE_NAMESPACE_ON_PUSH: true });
  await registry.user("alice");
}, 60_000);
afterAll(() => registry.stop());

test("a push to a namespace nobody has makes an organization that the pusher administers", async () => {
  const alice = registry.client("alice", password);
  await publish(alice, "newcomers/app", image("namespace"), "v1");
  expect((await findAccount(registry.app.db, "newcomers"))?.kind).toBe("organization");
  expect((await alice.pullManifest("newcomers/app", "v1")).status).toBe(200);
});

test("a token that is not for this push, and nobody at all, make no namespace", async () => {
  const alice = registry.client("alice", password);
  const start = (headers: Record<string, string>) =>
    fetch(`${registry.berth.url}/v2/ghosts/app/blobs/uploads/`, { method: "POST", headers });
  const authorization = (await alice.authorize("repository:ghosts/app:pull")) ?? "none was given";
  expect((await start({ authorization })).status).toBe(401);
  expect((await start({})).status).toBe(401);
  expect(await findAccount(registry.app.db, "ghosts")).toBeUndefined();
});
