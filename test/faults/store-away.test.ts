/**
 * One instance whose S3 store goes away and comes back: what needs it is refused with 503 and Retry-After, what does not goes
 * on, nothing is taken in part, and all comes back by itself. Needs versitygw, which Go brings.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import postgres from "postgres";
import { fixedBytes, type Image, publish } from "../support/content.ts";
import { findGoTool } from "../support/go-tools.ts";
import { describeContent, mediaTypes, RegistryClient, toBytes } from "../support/registry-client.ts";
import { findTool } from "../support/tools.ts";
import { expectRefusal, until } from "./answers.ts";
import { type FaultySite, startSite } from "./start.ts";

const repository = "admin/store-away";
const twoDaysMs = 2 * 24 * 3600 * 1000;
const s3Server = await findGoTool("versitygw");
const hasNone = s3Server.kind === "missing" && findTool("go") === undefined;
if (hasNone) console.log(`a store that goes away: ${s3Server.reason}`);

/** An image that is to expire, as its config says. */
function expiring(name: string): Image {
  const layer = fixedBytes(2_000, name.length);
  const config = toBytes({
    architecture: "amd64",
    os: "linux",
    config: { Labels: { name, "quay.expires-after": "2d" } },
  });
  const manifest = toBytes({
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config: describeContent(config, mediaTypes.config),
    layers: [describeContent(layer, mediaTypes.layer)],
  });
  const descriptor = describeContent(manifest, mediaTypes.manifest);
  return {
    manifest: new Uint8Array(manifest),
    digest: descriptor.digest,
    mediaType: mediaTypes.manifest,
    descriptor,
    blobs: [config, layer],
  };
}

describe.skipIf(hasNone)("a store that goes away", () => {
  let site: FaultySite;
  let client: RegistryClient;
  const there = expiring("there");
  const late = expiring("late");

  beforeAll(async () => {
    site = await startSite({ instances: 1, s3: "versitygw", seed: 1 });
    client = new RegistryClient({ url: site.url, username: "admin", password: site.adminPassword });
    await publish(client, repository, there, "there");
    for (const blob of late.blobs) expect((await client.pushBlob(repository, blob)).status).toBe(201);
  }, 300_000);
  afterAll(async () => {
    await site?.stop();
  }, 60_000);

  /** How long the tag lives, in ms; null for ever. */
  async function lifeOf(tag: string): Promise<unknown> {
    const sql = postgres(site.database.uri, { max: 1 });
    try {
      const [row] = await sql`select expires_ms - start_ms as life from tag where name = ${tag} and end_ms is null`;
      return row?.life === null ? null : Number(row?.life);
    } finally {
      await sql.end({ timeout: 5 });
    }
  }

  test("pushes are refused whole and manifests are still served; afterwards nothing is missing", async () => {
    const proxy = site.store?.proxy;
    if (!proxy) throw new Error("the site has no store of its own");
    proxy.faults.refuse = true;
    proxy.resetAll();
    expect((await client.pullManifest(repository, "there")).status).toBe(200);
    await expectRefusal(await client.pushBlob(repository, fixedBytes(3_000, 5)));
    // Its config cannot be read, which says when it is to expire.
    await expectRefusal(await client.pushManifest(repository, "late", late.manifest));
    for (const reference of ["late", late.digest]) {
      expect((await client.pullManifest(repository, reference)).status, reference).toBe(404);
    }
    await until("it is known", async () => (await fetch(`${site.url}/health/endtoend`)).status === 503);
    proxy.faults.clear();
    await until("it is back", async () => (await fetch(`${site.url}/health/endtoend`)).status === 200);
    expect((await client.pushManifest(repository, "late", late.manifest)).status).toBe(201);
    expect(await lifeOf("late")).toBe(twoDaysMs);
  }, 180_000);
});
