/** Two instances whose clocks are a minute apart, both ways round: what one has given, begun or ended holds on the other. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { password } from "../registry/harness.ts";
import { fixedBytes, image, publish } from "../support/content.ts";
import { clockAhead } from "../support/faketime.ts";
import { type Issuer, startIssuer } from "../support/oidc-issuer.ts";
import {
  basicAuthorization,
  digestOf,
  pullScope,
  pushScope,
  uploadLocation,
  withDigest,
} from "../support/registry-client.ts";
import { at, type Cluster, type Instance, patienceMs, startCluster, until } from "./instances.ts";
import { accepted, exchanged } from "./revocations.ts";
import { makeStore, type StoreName, stopStores } from "./stores.ts";

setDefaultTimeout(2 * patienceMs);
const minute = 60;
let issuer: Issuer;

beforeAll(async () => {
  issuer = await startIssuer();
});
afterAll(async () => {
  await issuer?.stop();
  await stopStores();
}, patienceMs);

/** Claims of the registry token in an Authorization header. */
function claimsOf(authorization: string): { iat: number; exp: number } {
  return JSON.parse(Buffer.from(authorization.split(".")[1] ?? "", "base64url").toString());
}

describe.each<[string, StoreName, number]>([
  ["a minute ahead", "a bucket", minute],
  ["a minute behind", "a folder", -minute],
])("with one clock %s, on %s", (_, store, seconds) => {
  let cluster: Cluster;
  /** Here the clock is right, there it is not. */
  let here: Instance;
  let there: Instance;
  let directions: [string, Instance, Instance][] = [];
  const repository = "alice/app";

  beforeAll(async () => {
    const { config } = await makeStore(store);
    cluster = await startCluster({
      config: { ...config, SSRF_ALLOWED_HOSTS: ["127.0.0.1"], SUPER_USERS: ["admin"] },
      instances: [{}, { env: await clockAhead(seconds) }],
    });
    [here, there] = [at(cluster, 0), at(cluster, 1)];
    directions = [
      ["there", here, there],
      ["and back", there, here],
    ];
    await cluster.user("alice");
    await publish(here.client("alice"), repository, image("clocks"), "v1");
  }, 2 * patienceMs);
  afterAll(() => cluster?.stop(), patienceMs);

  test("the clocks are a minute apart", async () => {
    const given = await Promise.all([here, there].map((instance) => instance.bearer("alice", password, "")));
    const [right = 0, wrong = 0] = given.map((token) => claimsOf(token).iat);
    expect(Math.abs(wrong - right - seconds)).toBeLessThan(minute / 4);
  });

  test("registry tokens and what robots got for an ID token are good elsewhere", async () => {
    const alice = await here.browser("alice");
    const { name } = (await accepted(alice.put("/user/robots/builder", {}))).body as { name: string };
    await accepted(alice.put(`/repository/${repository}/permissions/user/${name}`, { role: "read" }));
    await accepted(alice.post("/user/robots/builder/federation", [{ issuer: issuer.url, subject: "job" }]));
    const path = `/v2/${repository}/manifests/v1`;
    for (const [, from, to] of directions) {
      const token = await from.bearer("alice", password, pullScope(repository));
      expect(await to.status(path, { authorization: token })).toBe(200);
      const secret = await exchanged(from, name, await issuer.sign({ sub: "job", aud: "berth" }));
      expect(await to.status(path, { authorization: basicAuthorization(name, secret) })).toBe(200);
      const federated = await from.bearer(name, secret, pullScope(repository));
      expect(await to.status(path, { authorization: federated })).toBe(200);
    }
  });

  test("who signed in on one is signed in on the other, until signing out there", async () => {
    for (const [, from, to] of directions) {
      const csrf = await fetch(`${from.url}/csrf_token`);
      const visitor = csrf.headers.get("set-cookie")?.split(";")[0] ?? "";
      const { csrf_token } = (await csrf.json()) as { csrf_token: string };
      const signedIn = await fetch(`${from.url}/api/v1/signin`, {
        method: "POST",
        headers: { "content-type": "application/json", cookie: visitor, "x-csrf-token": csrf_token },
        body: JSON.stringify({ username: "alice", password }),
      });
      expect(signedIn.status).toBe(200);
      const session = /_csrf_token=([^;]+)/.exec(signedIn.headers.get("set-cookie") ?? "")?.[1] ?? "";
      const elsewhere = await to.browser("alice", session);
      expect((await elsewhere.get("/user/")).body).toMatchObject({ username: "alice" });
      // A password was asked for a moment ago, by whichever clock.
      await accepted(elsewhere.get("/user/apptoken"));
      await accepted(elsewhere.post("/signout"));
      expect((await (await from.browser("alice", session)).get("/user/")).status).toBe(401);
    }
  });

  test("a wrong password on one locks nobody out on the other for the difference", async () => {
    for (const [index, [, from, to]] of directions.entries()) {
      const name = `locked-${index}`;
      await cluster.user(name);
      const wrong = { authorization: basicAuthorization(name, "wrong") };
      expect(await from.status("/v2/auth", wrong)).toBe(401);
      const failedMs = performance.now();
      await until("the password is taken again", async () => {
        return (await to.status("/v2/auth", { authorization: basicAuthorization(name, password) })) === 200;
      });
      // Half a second is the rule; a minute would be the clocks' difference.
      expect(performance.now() - failedMs).toBeLessThan((minute * 1000) / 2);
    }
  });

  test("an upload goes on at the other, chunk by chunk, and is pulled from both", async () => {
    const content = fixedBytes(6_500_000, seconds + 100);
    const authorization = await here.bearer("alice", password, pushScope(repository));
    let location = "";
    const send = async (instance: Instance, method: string, path: string, body?: Uint8Array<ArrayBuffer>) => {
      const headers = { authorization, "content-type": "application/octet-stream" };
      const response = await fetch(new URL(path, instance.url), { method, headers, ...(body ? { body } : {}) });
      await response.arrayBuffer();
      if (response.headers.has("location")) {
        const { pathname, search } = new URL(uploadLocation(response));
        location = pathname + search;
      }
      return response.status;
    };
    expect(await send(there, "POST", `/v2/${repository}/blobs/uploads/`)).toBe(202);
    for (const [index, start] of [0, 1_000_000, 6_400_000].entries()) {
      const end = [1_000_000, 6_400_000, content.length][index];
      expect(await send(index % 2 === 0 ? here : there, "PATCH", location, content.slice(start, end))).toBe(202);
    }
    expect(await send(here, "PUT", withDigest(location, digestOf(content)))).toBe(201);
    // From a bucket by a URL that each instance signed by its own clock.
    for (const instance of [here, there]) {
      const headers = { authorization: await instance.bearer("alice", password, pullScope(repository)) };
      const blob = `${instance.url}/v2/${repository}/blobs/${digestOf(content)}`;
      const answer = await fetch(blob, { headers, redirect: "manual" });
      expect(answer.status).toBe(store === "a folder" ? 200 : 307);
      const pulled = answer.status === 200 ? answer : await fetch(answer.headers.get("location") ?? "");
      expect(pulled.status).toBe(200);
      expect(digestOf(await pulled.bytes())).toBe(digestOf(content));
    }
  });

  test("a tag that is moved and deleted here and there keeps its order", async () => {
    const order = [there, here, there, here];
    const images = order.map((_, index) => image(`moved-${seconds}-${index}`));
    for (const [index, instance] of order.entries()) {
      const pushed = images[index];
      if (pushed) await publish(instance.client("alice"), repository, pushed, "moving");
      for (const each of [here, there]) {
        const manifest = await each.client("alice").pullManifest(repository, "moving", fresh);
        expect(manifest.headers.get("docker-content-digest")).toBe(pushed?.digest ?? "");
      }
    }
    const history = await (await here.browser("alice")).get(`/repository/${repository}/tag/?specificTag=moving`);
    const digests = (history.body.tags as { manifest_digest: string }[]).map((tag) => tag.manifest_digest);
    expect(digests).toEqual(images.map(({ digest }) => digest).reverse());
    for (const [, from, to] of directions) {
      await accepted((await from.browser("alice")).delete(`/repository/${repository}/tag/moving`));
      expect((await to.client("alice").pullManifest(repository, "moving", fresh)).status).toBe(404);
      const names = (await (await to.client("alice").listTags(repository)).json()) as { tags: string[] };
      expect(names.tags).not.toContain("moving");
      const restored = await (await to.browser("alice")).post(`/repository/${repository}/tag/moving/restore`, {
        manifest_digest: images[3]?.digest,
      });
      expect(restored.status).toBe(200);
      expect((await from.client("alice").pullManifest(repository, "moving", fresh)).status).toBe(200);
    }
  });

  test("a tag with an end is alive on both until then", async () => {
    for (const [name, from] of directions) {
      const tag = `ends-${name.replace(" ", "-")}`;
      await publish(from.client("alice"), repository, image(tag), tag);
      const browser = await from.browser("alice");
      const expiration = Math.floor(Date.now() / 1000) + 3600;
      await accepted(browser.put(`/repository/${repository}/tag/${tag}`, { expiration }));
      for (const instance of [here, there]) {
        expect((await instance.client("alice").pullManifest(repository, tag, fresh)).status).toBe(200);
        const { tags } = (await (await instance.client("alice").listTags(repository)).json()) as { tags: string[] };
        expect(tags).toContain(tag);
      }
    }
  });

  test("pulls on both are added up, and the last is the later one", async () => {
    await publish(here.client("alice"), repository, image("counted"), "counted");
    for (const instance of [here, there, here]) {
      expect((await instance.client("alice").pullManifest(repository, "counted", fresh)).status).toBe(200);
    }
    const alice = await here.browser("alice");
    const statistics = async () =>
      (await alice.get(`/repository/${repository}/tag/counted/pull_statistics`)).body as Record<string, unknown>;
    await until("all three are counted", async () => (await statistics()).tag_pull_count === 3);
    const { last_tag_pull_date: last } = await statistics();
    const aheadMs = Date.parse(String(last)) - Date.now();
    expect(aheadMs).toBeLessThan((minute + 10) * 1000);
    expect(aheadMs).toBeGreaterThan(-minute * 1000);
  });
});

/** Each instance is to look before it answers: how soon it hears by itself is tested elsewhere. */
const fresh = { headers: { "cache-control": "no-cache" } };
