/**
 * An upload session belongs to its repository and principal and carries its grant: others find nothing, a token that runs
 * out does not fail the push, an account that is switched off does.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { SignJWT } from "jose";
import { fixedBytes } from "../support/content.ts";
import {
  basicAuthorization,
  digestOf,
  pushScope,
  type RegistryClient,
  withDigest,
} from "../support/registry-client.ts";
import { errorOf, password, type Registry, startRegistry } from "./harness.ts";
import { UploadSteps } from "./upload-steps.ts";

const repository = "owner/repo";
const bytes = fixedBytes(20_000, 77);
let registry: Registry;
let owner: RegistryClient;
let steps: UploadSteps;

beforeAll(async () => {
  registry = await startRegistry();
  owner = await registry.user("owner");
  steps = new UploadSteps(owner, repository);
  await owner.pushBlob(repository, fixedBytes(10, 1));
}, 60_000);
afterAll(() => registry.stop());

/** Sends one step with exactly this header and no second try. */
function step(
  location: string,
  method: string,
  authorization: string | undefined,
  body?: Uint8Array<ArrayBuffer>,
): Promise<Response> {
  return fetch(new URL(location, registry.berth.url), {
    method,
    headers: authorization === undefined ? {} : { authorization },
    ...(body === undefined ? {} : { body }),
  });
}

/** What each method of a session's URL answers. */
async function everyStep(location: string, authorization: string | undefined): Promise<[number, string][]> {
  const answers: [number, string][] = [];
  for (const [url, method, body] of [
    [location, "GET", undefined],
    [location, "PATCH", bytes],
    [withDigest(location, digestOf(bytes)), "PUT", bytes],
    [location, "DELETE", undefined],
  ] as const) {
    const response = await step(url, method, authorization, body);
    answers.push([response.status, (await errorOf(response)).code]);
  }
  return answers;
}

/**
 * A token as the instance itself signs it, but issued `ageSeconds` ago: signed with its own key out of the database.
 */
async function signedToken(username: string, scope: string, ageSeconds: number, lifeSeconds = 3600): Promise<string> {
  const { kid, privateKey } = await registry.app.tokenKeys.signingKey();
  const issued = Math.floor(Date.now() / 1000) - ageSeconds;
  const [, name = "", actions = ""] = scope.split(":");
  const accountId = await registry.accountId(username);
  const access = [{ type: "repository", name, actions: actions.split(",") }];
  const token = await new SignJWT({ access, context: {}, account_id: accountId })
    .setProtectedHeader({ alg: "ES256", typ: "JWT", kid })
    .setIssuer("quay")
    .setAudience("berth")
    .setSubject(username)
    .setNotBefore(issued)
    .setIssuedAt(issued)
    .setExpirationTime(issued + lifeSeconds)
    .sign(privateKey);
  return `Bearer ${token}`;
}

const unknown: [number, string] = [404, "BLOB_UPLOAD_UNKNOWN"];

describe("a session of somebody else", () => {
  test("is unknown to another user, also to one who may push there, to a robot and to a superuser", async () => {
    await registry.user("writer");
    await registry.grant("writer", repository, "write");
    const robot = await registry.robot("owner", "bot");
    await registry.grant(robot.name, repository, "admin");
    const location = await steps.start();
    await steps.patch(location, bytes.slice(0, 100));
    for (const [name, secret] of [
      ["writer", password],
      [robot.name, robot.token],
      ["admin", registry.berth.adminPassword],
    ] as const) {
      const answers = await everyStep(location, basicAuthorization(name, secret));
      expect(answers, name).toEqual([unknown, unknown, unknown, unknown]);
    }
    expect((await steps.status(location)).headers.get("range")).toBe("0-99");
    expect((await steps.cancel(location)).status).toBe(204);
  });

  test("asks an anonymous caller for credentials", async () => {
    const location = await steps.start();
    const answers = await everyStep(location, undefined);
    expect(answers).toEqual(answers.map(() => [401, "UNAUTHORIZED"]));
    await steps.cancel(location);
  });

  test("is unknown under another repository, also its owner's own", async () => {
    await owner.pushBlob("owner/other", fixedBytes(10, 2));
    const location = await steps.start();
    const authorization = basicAuthorization("owner", password);
    for (const other of ["owner/other", "owner/absent", "writer/repo", "owner/repo/deeper"]) {
      const moved = location.replace(`/v2/${repository}/`, `/v2/${other}/`);
      expect(await everyStep(moved, authorization), other).toEqual([unknown, unknown, unknown, unknown]);
    }
    expect((await steps.status(location)).status).toBe(204);
    await steps.cancel(location);
  });

  test("ids that are none are unknown", async () => {
    for (const id of [
      crypto.randomUUID(),
      "x",
      "..",
      "%2e%2e%2f%2e%2e",
      "a".repeat(500),
      "00000000-0000-0000-0000-000000000000",
    ]) {
      const response = await steps.status(`/v2/${repository}/blobs/uploads/${id}`);
      expect([400, 404, 405], id).toContain(response.status);
      await response.body?.cancel();
    }
  });

  test("stays another's when the name comes back: the id of a finished session opens nothing", async () => {
    const location = await steps.start();
    await steps.put(location, digestOf(bytes), bytes);
    expect(await everyStep(location, basicAuthorization("owner", password))).toEqual(Array(4).fill(unknown));
  });
});

describe("a token that runs out", () => {
  const scope = pushScope(repository);

  test("finishes the upload it began, by chunks and by PUT", async () => {
    const fresh = await signedToken("owner", scope, 0);
    const expired = await signedToken("owner", scope, 3700);
    const begun = await step(`/v2/${repository}/blobs/uploads/`, "POST", fresh);
    expect(begun.status).toBe(202);
    const location = begun.headers.get("location") ?? "";
    expect((await step(location, "PATCH", expired, bytes.slice(0, 5000))).status).toBe(202);
    expect((await step(location, "GET", expired)).headers.get("range")).toBe("0-4999");
    const last = await step(withDigest(location, digestOf(bytes)), "PUT", expired, bytes.slice(5000));
    expect(last.status).toBe(201);
  });

  test("is good for nothing else", async () => {
    const expired = await signedToken("owner", scope, 3700);
    for (const [method, path] of [
      ["GET", "/v2/"],
      ["GET", "/v2/_catalog"],
      ["POST", `/v2/${repository}/blobs/uploads/`],
      ["GET", `/v2/${repository}/tags/list`],
      ["GET", `/v2/${repository}/blobs/${digestOf(bytes)}`],
      ["PUT", `/v2/${repository}/manifests/v1`],
    ] as const) {
      const response = await step(path, method, expired);
      expect(response.status, path).toBe(401);
      expect(response.headers.get("www-authenticate")).toStartWith("Bearer realm=");
      await response.body?.cancel();
    }
  });

  test("is still not another's: the session of one account is closed to the expired token of another", async () => {
    const location = await steps.start();
    const expired = await signedToken("admin", scope, 3700);
    expect(await everyStep(location, expired)).toEqual(Array(4).fill(unknown));
    await steps.cancel(location);
  });

  test("is refused when it is older than any session, lives too long or comes from tomorrow", async () => {
    const location = await steps.start();
    const week = 7 * 24 * 3600;
    for (const [name, token] of [
      ["older than any session", await signedToken("owner", scope, week + 4000)],
      ["living a day", await signedToken("owner", scope, 0, 24 * 3600)],
      ["from far in the future", await signedToken("owner", scope, -(week + 4000))],
    ] as const) {
      const response = await step(location, "GET", token);
      expect(response.status, name).toBe(401);
      await response.body?.cancel();
    }
    await steps.cancel(location);
  });

  test("a token of another scope goes on with its own account's session, for the session carries the grant", async () => {
    const location = await steps.start();
    const other = await signedToken("owner", "repository:owner/other:pull", 0);
    expect((await step(location, "PATCH", other, bytes)).status).toBe(202);
    expect((await step(withDigest(location, digestOf(bytes)), "PUT", other)).status).toBe(201);
  });
});

describe("what ends a session's grant", () => {
  test("the account being switched off: every step is refused, and works again when it is on", async () => {
    const user = await registry.user("leaver");
    await user.pushBlob("leaver/repo", fixedBytes(10, 3));
    const theirs = new UploadSteps(user, "leaver/repo");
    const location = await theirs.start();
    await theirs.patch(location, bytes.slice(0, 1000));
    const bearer = await signedToken("leaver", pushScope("leaver/repo"), 0);
    await registry.enabled("leaver", false);
    for (const authorization of [bearer, basicAuthorization("leaver", password)]) {
      const answers = await everyStep(location, authorization);
      expect(answers).toEqual(answers.map(() => [401, "UNAUTHORIZED"]));
    }
    await registry.enabled("leaver", true);
    expect((await step(location, "GET", bearer)).headers.get("range")).toBe("0-999");
    const last = await step(withDigest(location, digestOf(bytes)), "PUT", bearer, bytes.slice(1000));
    expect(last.status).toBe(201);
  });

  test("the repository being put into read-only: refused, and the bytes stay", async () => {
    await owner.pushBlob("owner/frozen", fixedBytes(10, 4));
    const theirs = new UploadSteps(owner, "owner/frozen");
    const location = await theirs.start();
    await theirs.patch(location, bytes.slice(0, 1000));
    await registry.state("owner/frozen", "READ_ONLY");
    const answers = await everyStep(location, basicAuthorization("owner", password));
    expect(answers).toEqual(answers.map(() => [403, "DENIED"]));
    await registry.state("owner/frozen", "NORMAL");
    expect((await theirs.status(location)).headers.get("range")).toBe("0-999");
    expect((await theirs.cancel(location)).status).toBe(204);
  });

  test("its time being over: the session is unknown", async () => {
    const location = await steps.start();
    const id = location.split("/").at(-1) ?? "";
    await registry.app.db.tx(async (tx) => {
      await tx.sql`update upload_session set expires_ms = ${Date.now() - 1} where id = ${id}`;
    });
    expect(await everyStep(location, basicAuthorization("owner", password))).toEqual(Array(4).fill(unknown));
  });
});
