/**
 * A registry with something of everything, made over the wire, and all that it answers about it: what a move must leave as
 * it was.
 */

import { expect } from "bun:test";
import { type Api, type ApiAnswer, ApiClient } from "../api/harness.ts";
import { basicOf } from "../registry/harness.ts";
import { artifact, fixedBytes, type Image, image, index, publish } from "../support/content.ts";
import { digestOf, RegistryClient, uploadLocation } from "../support/registry-client.ts";

export interface World {
  /** Sessions, whose cookies must go on working. */
  readonly sessions: Readonly<Record<"alice" | "bob" | "admin", Record<string, string>>>;
  readonly robot: { readonly name: string; readonly token: string };
  readonly appToken: string;
  /** A token of alice's that was given out before the move. */
  readonly bearer: string;
  /** The unfinished upload and the bytes that it still wants. */
  readonly upload: {
    readonly repository: string;
    readonly path: string;
    readonly rest: Uint8Array;
    readonly digest: string;
  };
  readonly digests: Readonly<Record<string, string>>;
}

/** Where the world's images are. */
export const REPOSITORY = "acme/web/api";

export async function makeWorld(api: Api): Promise<World> {
  const alice = await api.user("alice");
  for (const name of ["bob", "carol"]) await api.user(name);
  const [owner, bob, admin] = [await api.as("alice"), await api.as("bob"), await api.as("admin")];
  await done(owner.post("/organization/", { name: "acme" }));
  await done(owner.put("/organization/acme/team/devs", { role: "member", description: "writes « quoted » text; 🐳" }));
  await done(owner.put("/organization/acme/team/devs/members/bob"));
  await done(owner.put("/organization/acme/team/ops", { role: "creator" }));
  await done(owner.put("/organization/acme/team/ops/members/carol"));
  const robot = await done(
    owner.put("/organization/acme/robots/ci", { description: "builds", unstructured_metadata: { a: "b" } }),
  );

  const images: Record<string, Image> = { one: image("one"), two: image("two"), arm: image("arm") };
  const [one, two, arm] = [images.one, images.two, images.arm] as [Image, Image, Image];
  const list = index([one.descriptor, arm.descriptor]);
  const signature = artifact("application/vnd.example.signature", { subject: one.descriptor });
  for (const [tag, content] of [
    ["v1", one],
    ["latest", one],
    ["latest", two],
    ["arm", arm],
    ["multi", list],
  ] as const) {
    await publish(alice, REPOSITORY, content, tag);
  }
  await publish(alice, REPOSITORY, signature);
  await publish(alice, "alice/own", one, "v1");
  await publish(alice, "alice/gone", two, "v1");
  await done(owner.delete("/repository/alice/gone"));

  const path = `/repository/${REPOSITORY}`;
  await done(owner.put(`${path}/permissions/user/bob`, { role: "write" }));
  await done(owner.put(`${path}/permissions/team/ops`, { role: "read" }));
  await done(owner.put(`${path}/permissions/user/acme+ci`, { role: "write" }));
  await done(owner.post("/organization/acme/prototypes", { role: "read", delegate: { kind: "team", name: "devs" } }));
  await done(owner.put(path, { description: "line one\nline two with 'quotes' and \\ and ünïcode" }));
  await done(owner.post("/repository/alice/own/changevisibility", { visibility: "public" }));
  await done(
    owner.post(`${path}/manifest/${one.digest}/labels`, { key: "team", value: "web", media_type: "text/plain" }),
  );
  await done(owner.put(`${path}/tag/arm`, { expiration: Math.floor(Date.now() / 1000) + 86_400 }));
  await done(owner.put(`${path}/tag/v1`, { immutable: true }));
  await done(owner.put(`${path}/tag/old`, { manifest_digest: two.digest }));
  await done(owner.delete(`${path}/tag/old`));
  await done(owner.post("/repository/alice/own/immutabilitypolicy/", { tagPattern: "release-.*" }));
  await done(owner.post("/organization/acme/autoprunepolicy/", { method: "number_of_tags", value: 50 }));
  await done(bob.post("/user/starred", { namespace: "alice", repository: "own" }));
  await done(
    admin.post("/messages", { message: { content: "back soon", severity: "info", media_type: "text/plain" } }),
  );
  await done(owner.post("/organization/acme/applications", { name: "deployer", description: "" }));
  const appToken = await done(owner.post("/user/apptoken", { title: "laptop" }));

  return {
    sessions: { alice: owner.headers, bob: bob.headers, admin: admin.headers },
    robot: { name: robot.body.name, token: robot.body.token },
    appToken: appToken.body.token.token_code,
    bearer: (await alice.authorize(`repository:${REPOSITORY}:pull registry:catalog:*`)) ?? "",
    upload: await beginUpload(alice),
    digests: { one: one.digest, two: two.digest, arm: arm.digest, list: list.digest, signature: signature.digest },
  };
}

/** Everything that is asked of a registry about this world, by name of the question. Nothing in it may change with a move. */
export async function answersOf(url: string, world: World): Promise<Record<string, unknown>> {
  const path = `/repository/${REPOSITORY}`;
  const { digests } = world;
  const asked: Record<"alice" | "bob" | "admin", readonly string[]> = {
    alice: [
      "/user/",
      "/organization/acme",
      "/organization/acme/members",
      "/organization/acme/robots?permissions=true&token=true",
      "/organization/acme/team/devs/members",
      "/organization/acme/team/ops/permissions",
      "/organization/acme/prototypes",
      "/organization/acme/applications",
      "/organization/acme/autoprunepolicy/",
      "/organization/acme/logs",
      "/organization/acme/aggregatelogs",
      "/repository?namespace=acme&last_modified=true",
      "/repository?namespace=alice",
      "/repository?public=true",
      `${path}?includeTags=true`,
      `${path}/tag/?limit=100`,
      `${path}/tag/?limit=100&onlyActiveTags=true`,
      `${path}/permissions/user/`,
      `${path}/permissions/team/`,
      `${path}/logs`,
      `${path}/manifest/${digests.one}`,
      `${path}/manifest/${digests.one}/labels`,
      `${path}/manifest/${digests.list}`,
      "/repository/alice/own/immutabilitypolicy/",
      "/user/apptoken",
      "/user/notifications",
      "/user/logs",
      "/find/repositories?query=api",
      "/find/all?query=ac",
    ],
    bob: [
      "/user/",
      "/user/starred",
      "/repository?starred=true",
      `${path}`,
      "/repository/alice/gone",
      "/organization/acme",
    ],
    admin: ["/superuser/users/", "/superuser/organizations/", "/superuser/keys", "/messages"],
  };
  const answers: Record<string, unknown> = {};
  for (const [name, paths] of Object.entries(asked)) {
    const client = new ApiClient(url, world.sessions[name as keyof World["sessions"]]);
    for (const each of paths) {
      const { status, body } = await client.get(each);
      // A log says of which days it tells, up to now, and where it goes on is sealed anew each time.
      const { start_time, end_time, next_page, ...rest } = body;
      answers[`${name} ${each}`] = { status, body: rest };
    }
  }
  for (const path of ["acme/web/api/tags/list", `acme/web/api/referrers/${digests.one}`, "_catalog"]) {
    const response = await fetch(`${url}/v2/${path}`, { headers: { authorization: world.bearer } });
    answers[path] = { status: response.status, body: await response.json() };
  }
  return answers;
}

/** Log-ins of every kind, pulls and the end of the upload, on the registry at this address. */
export async function useWorld(url: string, world: World): Promise<void> {
  const robot = new RegistryClient({ url, username: world.robot.name, password: world.robot.token });
  const withToken = new RegistryClient({ url, username: "$app", password: world.appToken });
  for (const client of [robot, withToken]) {
    const pulled = await client.pullManifest(REPOSITORY, "latest");
    expect([pulled.status, digestOf(new Uint8Array(await pulled.arrayBuffer()))]).toEqual([
      200,
      world.digests.two ?? "",
    ]);
  }
  for (const name of ["alice", "bob", "carol"]) {
    const answer = await fetch(`${url}/v2/auth?service=x`, { headers: basicOf(name) });
    expect([name, answer.status]).toEqual([name, 200]);
    await answer.body?.cancel();
  }
  const { repository, path, rest, digest } = world.upload;
  const alice = new RegistryClient({ url, username: "alice", password: passwordOf() });
  const scope = `repository:${repository}:pull,push`;
  const ended = await alice.request(`${path}${path.includes("?") ? "&" : "?"}digest=${digest}`, {
    method: "PUT",
    body: new Uint8Array(rest),
    scope,
  });
  expect([ended.status, await ended.text()]).toEqual([201, ""]);
  const blob = await alice.pullBlob(repository, digest);
  expect(digestOf(new Uint8Array(await blob.arrayBuffer()))).toBe(digest);
}

function passwordOf(): string {
  return (
    Buffer.from(basicOf("alice").authorization?.split(" ")[1] ?? "", "base64")
      .toString()
      .split(":")[1] ?? ""
  );
}

/** An upload of which half has come. */
async function beginUpload(client: RegistryClient): Promise<World["upload"]> {
  const bytes = fixedBytes(200_000, 77);
  const repository = "alice/own";
  const scope = `repository:${repository}:pull,push`;
  const begun = await client.request(`/v2/${repository}/blobs/uploads/`, { method: "POST", scope });
  const patched = await client.request(uploadLocation(begun), {
    method: "PATCH",
    body: bytes.slice(0, 120_000),
    scope,
  });
  expect(patched.status).toBe(202);
  const { pathname, search } = new URL(uploadLocation(patched));
  return { repository, path: `${pathname}${search}`, rest: bytes.slice(120_000), digest: digestOf(bytes) };
}

async function done(asked: Promise<ApiAnswer>): Promise<ApiAnswer> {
  const answer = await asked;
  if (answer.status > 299) throw new Error(`the world could not be made: ${answer.status} ${answer.text}`);
  return answer;
}
