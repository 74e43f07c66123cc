/**
 * Everything that can be taken back or deleted, as trials: each prepares something that works on the second instance, and
 * takes it back on the first one.
 */
import type { ApiAnswer, ApiClient } from "../api/harness.ts";
import { password } from "../registry/harness.ts";
import { image, publish } from "../support/content.ts";
import type { Issuer } from "../support/oidc-issuer.ts";
import { basicAuthorization, pullScope, pushScope } from "../support/registry-client.ts";
import { at, type Cluster, type Instance } from "./instances.ts";

export interface Trial {
  /** What the second instance answers, by status: all 2xx before, none after. */
  readonly probes: readonly (() => Promise<number>)[];
  revoke(): Promise<unknown>;
}

export interface World {
  readonly cluster: Cluster;
  readonly issuer: Issuer;
}

type Prepare = (world: World) => Promise<Trial>;

let made = 0;
/** A name that no other trial has. */
const fresh = (word: string) => `${word}${++made}`;

/** Throws unless the change was made. */
export async function accepted(answer: Promise<ApiAnswer>): Promise<ApiAnswer> {
  const found = await answer;
  if (found.status >= 200 && found.status < 300) return found;
  throw new Error(`refused: ${found.status} ${found.text}`);
}

/** A user with a browser on the first instance and a private repository with the tag `v1`. */
async function owner({ cluster }: World): Promise<{ name: string; browser: ApiClient; path: string; digest: string }> {
  const first = at(cluster, 0);
  const name = fresh("owner");
  await cluster.user(name);
  const path = `${name}/app`;
  const content = image(path);
  await publish(first.client(name), path, content, "v1");
  return { name, browser: await first.browser(name), path, digest: content.digest };
}

function pull(instance: Instance, path: string, authorization: string, reference = "v1"): () => Promise<number> {
  return () => instance.status(`/v2/${path}/manifests/${reference}`, { authorization });
}

/** Pulls with a token that a name and a secret got on the second instance, and with the two themselves. */
async function pullsBy({ cluster }: World, path: string, name: string, secret: string) {
  const second = at(cluster, 1);
  return [
    pull(second, path, await second.bearer(name, secret, pullScope(path))),
    pull(second, path, basicAuthorization(name, secret)),
  ];
}

/** Another user who may read an owner's repository. */
async function reader(world: World, mine: { browser: ApiClient; path: string }): Promise<string> {
  const name = fresh("reader");
  await world.cluster.user(name);
  await accepted(mine.browser.put(`/repository/${mine.path}/permissions/user/${name}`, { role: "read" }));
  return name;
}

/** An organization with a repository that a team may read, and a member of it. */
async function organization(world: World) {
  const { cluster } = world;
  const mine = await owner(world);
  const name = fresh("org");
  await accepted(mine.browser.post("/organization/", { name, email: `${name}@example.com` }));
  const path = `${name}/app`;
  await publish(at(cluster, 0).client(mine.name), path, image(path), "v1");
  const member = fresh("member");
  await cluster.user(member);
  const team = `/organization/${name}/team/readers`;
  await accepted(mine.browser.put(team, { role: "member" }));
  await accepted(mine.browser.put(`${team}/members/${member}`, {}));
  await accepted(mine.browser.put(`/repository/${path}/permissions/team/readers`, { role: "read" }));
  return { browser: mine.browser, owner: mine.name, name, path, member, team };
}

async function robot(world: World, mine: { name: string; browser: ApiClient; path: string }) {
  const short = fresh("robot");
  const answer = await accepted(mine.browser.put(`/user/robots/${short}`, {}));
  const { name, token } = answer.body as { name: string; token: string };
  await accepted(mine.browser.put(`/repository/${mine.path}/permissions/user/${name}`, { role: "read" }));
  return { name, short, token, probes: await pullsBy(world, mine.path, name, token) };
}

/** An OAuth token, as API caller and as log-in, and the application that it belongs to. */
async function oauth(world: World) {
  const org = await organization(world);
  const applications = `/organization/${org.name}/applications`;
  const application = await accepted(org.browser.post(applications, { name: "ci", redirect_uri: "" }));
  const one = `${applications}/${application.body.client_id}`;
  const answer = await accepted(
    org.browser.post(`${one}/tokens`, { title: "t", scope: "repo:read", expiration: 3600 }),
  );
  const { uuid, access_token: token } = answer.body.token as { uuid: string; access_token: string };
  const second = at(world.cluster, 1);
  const api = () => second.status(`/api/v1/repository/${org.path}`, { authorization: `Bearer ${token}` });
  const probes = [api, ...(await pullsBy(world, org.path, "$oauthtoken", token))];
  return { browser: org.browser, application: one, token: `${one}/tokens/${uuid}`, probes };
}

/** The key that signed a token. */
function kidOf(bearer: string): string {
  const header = bearer.split(" ")[1]?.split(".")[0] ?? "";
  return (JSON.parse(Buffer.from(header, "base64url").toString()) as { kid: string }).kid;
}

export const trials: Readonly<Record<string, Prepare>> = {
  async "a tag is deleted"(world) {
    const mine = await owner(world);
    return {
      probes: await pullsBy(world, mine.path, mine.name, password),
      revoke: () => accepted(mine.browser.delete(`/repository/${mine.path}/tag/v1`)),
    };
  },
  async "a manifest is deleted"(world) {
    const mine = await owner(world);
    const first = at(world.cluster, 0);
    const second = at(world.cluster, 1);
    const token = await second.bearer(mine.name, password, pullScope(mine.path));
    const deleting = await first.bearer(mine.name, password, `repository:${mine.path}:delete`);
    return {
      probes: [pull(second, mine.path, token), pull(second, mine.path, token, mine.digest)],
      async revoke() {
        const manifest = `/v2/${mine.path}/manifests/${mine.digest}`;
        const status = await first.status(manifest, { authorization: deleting }, "DELETE");
        if (status !== 202) throw new Error(`refused: ${status}`);
      },
    };
  },
  async "a repository is deleted"(world) {
    const mine = await owner(world);
    return {
      probes: await pullsBy(world, mine.path, mine.name, password),
      revoke: () => accepted(mine.browser.delete(`/repository/${mine.path}`)),
    };
  },
  async "a public repository becomes private"(world) {
    const mine = await owner(world);
    const change = (visibility: string) =>
      accepted(mine.browser.post(`/repository/${mine.path}/changevisibility`, { visibility }));
    await change("public");
    const second = at(world.cluster, 1);
    return {
      probes: [pull(second, mine.path, await second.bearer("", "", pullScope(mine.path)))],
      revoke: () => change("private"),
    };
  },
  async "a repository becomes read-only"(world) {
    const mine = await owner(world);
    const second = at(world.cluster, 1);
    const authorization = await second.bearer(mine.name, password, pushScope(mine.path));
    return {
      probes: [() => second.status(`/v2/${mine.path}/blobs/uploads/`, { authorization }, "POST")],
      revoke: () => accepted(mine.browser.put(`/repository/${mine.path}/changestate`, { state: "READ_ONLY" })),
    };
  },
  async "a permission is taken back"(world) {
    const mine = await owner(world);
    const name = await reader(world, mine);
    return {
      probes: await pullsBy(world, mine.path, name, password),
      revoke: () => accepted(mine.browser.delete(`/repository/${mine.path}/permissions/user/${name}`)),
    };
  },
  async "a member leaves a team"(world) {
    const org = await organization(world);
    return {
      probes: await pullsBy(world, org.path, org.member, password),
      revoke: () => accepted(org.browser.delete(`${org.team}/members/${org.member}`)),
    };
  },
  async "a member leaves an organization"(world) {
    const org = await organization(world);
    return {
      probes: await pullsBy(world, org.path, org.member, password),
      revoke: () => accepted(org.browser.delete(`/organization/${org.name}/members/${org.member}`)),
    };
  },
  async "a team is deleted"(world) {
    const org = await organization(world);
    return {
      probes: await pullsBy(world, org.path, org.member, password),
      revoke: () => accepted(org.browser.delete(org.team)),
    };
  },
  async "an organization is deleted"(world) {
    const org = await organization(world);
    return {
      probes: [
        ...(await pullsBy(world, org.path, org.member, password)),
        ...(await pullsBy(world, org.path, org.owner, password)),
      ],
      revoke: () => accepted(org.browser.delete(`/organization/${org.name}`)),
    };
  },
  async "a robot is deleted"(world) {
    const mine = await owner(world);
    const { short, probes } = await robot(world, mine);
    return { probes, revoke: () => accepted(mine.browser.delete(`/user/robots/${short}`)) };
  },
  async "a robot gets another token"(world) {
    const mine = await owner(world);
    const { short, probes } = await robot(world, mine);
    return { probes, revoke: () => accepted(mine.browser.post(`/user/robots/${short}/regenerate`, {})) };
  },
  async "a robot trusts an issuer no more"(world) {
    const mine = await owner(world);
    const { name, short } = await robot(world, mine);
    const federation = `/user/robots/${short}/federation`;
    const { issuer } = world;
    await accepted(mine.browser.post(federation, [{ issuer: issuer.url, subject: "job" }]));
    const secret = await exchanged(at(world.cluster, 1), name, await issuer.sign({ sub: "job", aud: "berth" }));
    return {
      probes: await pullsBy(world, mine.path, name, secret),
      revoke: () => accepted(mine.browser.delete(federation)),
    };
  },
  async "an app-specific token is deleted"(world) {
    const mine = await owner(world);
    const answer = await accepted(mine.browser.post("/user/apptoken", { title: "laptop" }));
    const { uuid, token_code: token } = answer.body.token as { uuid: string; token_code: string };
    return {
      probes: await pullsBy(world, mine.path, "$app", token),
      revoke: () => accepted(mine.browser.delete(`/user/apptoken/${uuid}`)),
    };
  },
  async "an OAuth token is deleted"(world) {
    const { browser, token, probes } = await oauth(world);
    return { probes, revoke: () => accepted(browser.delete(token)) };
  },
  async "an OAuth application is deleted"(world) {
    const { browser, application, probes } = await oauth(world);
    return { probes, revoke: () => accepted(browser.delete(application)) };
  },
  async "a user is disabled"(world) {
    const admin = await at(world.cluster, 0).browser("admin");
    return userTrial(world, (name) => admin.put(`/superuser/users/${name}`, { enabled: false }));
  },
  async "a user is deleted"(world) {
    const admin = await at(world.cluster, 0).browser("admin");
    return userTrial(world, (name) => admin.delete(`/superuser/users/${name}`));
  },
  async "a password is changed"(world) {
    return userTrial(world, (_, browser) => browser.put("/user/", { password: "another-password" }));
  },
  async "a session is ended"(world) {
    const { cluster } = world;
    const { name } = await owner(world);
    const session = await at(cluster, 0).session(name);
    const there = await at(cluster, 1).browser(name, session);
    const here = await at(cluster, 0).browser(name, session);
    return {
      probes: [async () => (await there.get("/user/")).status],
      revoke: () => accepted(here.post("/signout")),
    };
  },
  async "a key that signs tokens is deleted"(world) {
    const mine = await owner(world);
    const { name } = await robot(world, mine);
    const federation = `/user/robots/${name.split("+")[1]}/federation`;
    await accepted(mine.browser.post(federation, [{ issuer: world.issuer.url, subject: "signed" }]));
    const second = at(world.cluster, 1);
    const secret = await exchanged(second, name, await world.issuer.sign({ sub: "signed", aud: "berth" }));
    const token = await second.bearer(mine.name, password, pullScope(mine.path));
    const admin = await at(world.cluster, 0).browser("admin");
    return {
      probes: [pull(second, mine.path, token), pull(second, mine.path, basicAuthorization(name, secret))],
      revoke: () => accepted(admin.delete(`/superuser/keys/${kidOf(token)}`)),
    };
  },
  async "a service's key is deleted"(world) {
    const admin = await at(world.cluster, 0).browser("admin");
    const input = { service: "mirror", expiration: null, name: "Mirror" };
    const { kid } = (await accepted(admin.post("/superuser/keys", input))).body as { kid: string };
    const second = at(world.cluster, 1);
    return {
      probes: [() => second.status(`/keys/services/mirror/keys/${kid}`)],
      revoke: () => accepted(admin.delete(`/superuser/keys/${kid}`)),
    };
  },
};

/** A user who is signed in and has logged in on the second instance, with what ends all of that. */
async function userTrial(
  world: World,
  change: (name: string, browser: ApiClient) => Promise<ApiAnswer>,
): Promise<Trial> {
  const mine = await owner(world);
  const name = await reader(world, mine);
  const elsewhere = await at(world.cluster, 1).browser(name);
  const browser = await at(world.cluster, 0).browser(name);
  return {
    probes: [...(await pullsBy(world, mine.path, name, password)), async () => (await elsewhere.get("/user/")).status],
    revoke: () => accepted(change(name, browser)),
  };
}

/** The password that a robot gets for an ID token. */
export async function exchanged(instance: Instance, name: string, idToken: string): Promise<string> {
  const headers = { authorization: basicAuthorization(name, idToken) };
  const response = await fetch(`${instance.url}/oauth2/federation/robot/token`, { headers });
  if (response.status !== 200) throw new Error(`exchange: ${response.status} ${await response.text()}`);
  return ((await response.json()) as { token: string }).token;
}
