/**
 * podman and skopeo log in with everything that Berth takes, made through the API as a user would, and get exactly the
 * rights of each.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Client, isolation, noTls, podmanIn, skopeoIn } from "./containers.ts";
import { adminPassword, type ClientLab, startLab, testTimeoutMs } from "./lab.ts";

let lab: ClientLab;
let podman: Client;
let skopeo: Client;
let api: Session;

/** A browser's session on /api/v1. */
interface Session {
  send(method: string, path: string, body?: unknown): Promise<Response>;
  /** Throws unless the answer is a success. */
  json<T>(method: string, path: string, body?: unknown): Promise<T>;
}

async function signIn(url: string, username: string, password: string): Promise<Session> {
  const first = await fetch(`${url}/csrf_token`);
  const visitor = {
    cookie: first.headers.get("set-cookie")?.split(";")[0] ?? "",
    csrf: ((await first.json()) as { csrf_token: string }).csrf_token,
  };
  const call = ({ cookie, csrf }: typeof visitor, method: string, path: string, body?: unknown) =>
    fetch(`${url}/api/v1${path}`, {
      method,
      headers: { Cookie: cookie, "X-CSRF-Token": csrf, "Content-Type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  const signed = await call(visitor, "POST", "/signin", { username, password });
  if (signed.status !== 200) throw new Error(`sign-in: ${signed.status} ${await signed.text()}`);
  const session = {
    cookie: signed.headers.get("set-cookie")?.split(";")[0] ?? "",
    csrf: signed.headers.get("x-next-csrf-token") ?? "",
  };
  const send: Session["send"] = (method, path, body) => call(session, method, path, body);
  return {
    send,
    async json<T>(method: string, path: string, body?: unknown) {
      const response = await send(method, path, body);
      const text = await response.text();
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
      return JSON.parse(text) as T;
    },
  };
}

interface Credentials {
  readonly username: string;
  readonly secret: string;
  revoke(): Promise<unknown>;
}

async function appToken(): Promise<Credentials> {
  const { token } = await api.json<{ token: { uuid: string; token_code: string } }>("POST", "/user/apptoken", {
    title: "podman",
  });
  return {
    username: "$app",
    secret: token.token_code,
    revoke: () => api.send("DELETE", `/user/apptoken/${token.uuid}`),
  };
}

let application = "";

async function oauthToken(scope: string): Promise<Credentials> {
  if (application === "") {
    await api.send("POST", "/organization/", { name: "tokens" });
    const made = await api.json<{ client_id: string }>("POST", "/organization/tokens/applications", { name: "ci" });
    application = made.client_id;
  }
  const path = `/organization/tokens/applications/${application}/tokens`;
  const { token } = await api.json<{ token: { uuid: string; access_token: string } }>("POST", path, {
    title: scope,
    scope,
  });
  return {
    username: "$oauthtoken",
    secret: token.access_token,
    revoke: () => api.send("DELETE", `${path}/${token.uuid}`),
  };
}

async function robot(role: "read" | "write"): Promise<Credentials> {
  const { name, token } = await api.json<{ name: string; token: string }>("PUT", `/user/robots/${role}er`, {});
  await lab.berthUser("grant", name, "admin/private", "--role", role);
  return { username: name, secret: token, revoke: () => api.send("DELETE", `/user/robots/${role}er`) };
}

async function clientKey(): Promise<Credentials> {
  const { key } = await api.json<{ key: string }>("POST", "/user/clientkey", { password: adminPassword });
  return { username: "admin", secret: key, revoke: async () => undefined };
}

beforeAll(async () => {
  lab = await startLab();
  podman = podmanIn(lab);
  skopeo = skopeoIn(lab);
  api = await signIn(lab.berth.url, "admin", adminPassword);
  const { dir } = lab.buildContext("credentials");
  await podman.run("build", isolation, "-t", "localhost/built:v1", dir);
  await podman.run("login", noTls, "-u", "admin", "-p", adminPassword, lab.host);
  await podman.run("push", noTls, "localhost/built:v1", `${lab.host}/admin/private:v1`);
}, testTimeoutMs * 2);

afterAll(() => lab?.stop(), testTimeoutMs);

interface Case {
  readonly what: string;
  readonly make: () => Promise<Credentials>;
  readonly pull: boolean;
  readonly push: boolean;
  readonly create: boolean;
}

const cases: readonly Case[] = [
  {
    what: "a user by password",
    make: async () => ({ username: "admin", secret: adminPassword, revoke: async () => undefined }),
    pull: true,
    push: true,
    create: true,
  },
  { what: "a user by client key", make: clientKey, pull: true, push: true, create: true },
  { what: "a robot that may read", make: () => robot("read"), pull: true, push: false, create: false },
  { what: "a robot that may write", make: () => robot("write"), pull: true, push: true, create: false },
  { what: "an app-specific token", make: appToken, pull: true, push: true, create: true },
  { what: "an OAuth token of repo:read", make: () => oauthToken("repo:read"), pull: true, push: false, create: false },
  { what: "an OAuth token of repo:write", make: () => oauthToken("repo:write"), pull: true, push: true, create: false },
  {
    what: "an OAuth token of repo:create and repo:write",
    make: () => oauthToken("repo:create repo:write"),
    pull: true,
    push: true,
    create: true,
  },
  {
    what: "an OAuth token of user:admin",
    make: () => oauthToken("user:admin"),
    pull: false,
    push: false,
    create: false,
  },
];

describe("podman and skopeo", () => {
  test.each(cases.map((entry) => [entry.what, entry] as const))(
    "as %s may do what it may and nothing else, and nothing once it was taken back",
    async (what, { make, pull, push, create }) => {
      const { username, secret, revoke } = await make();
      const slug = what.replaceAll(/[^a-z]+/gi, "-").toLowerCase();
      const authFile = ["--authfile", lab.path(`${slug}.json`)];
      const login = await podman.run("login", noTls, ...authFile, "-u", username, "-p", secret, lab.host);
      expect(login.text).toContain("Login Succeeded!");

      const pulled = `${lab.host}/admin/private:v1`;
      const pushed = `${lab.host}/admin/private:${slug}`;
      const created = `${lab.host}/admin/${slug}:v1`;
      await attempt(pull, podman, ["pull", noTls, ...authFile, pulled]);
      await attempt(push, podman, ["push", noTls, ...authFile, "localhost/built:v1", pushed]);
      await attempt(create, podman, ["push", noTls, ...authFile, "localhost/built:v1", created]);
      const credentials = ["--creds", `${username}:${secret}`];
      await attempt(pull, skopeo, ["inspect", noTls, ...credentials, `docker://${pulled}`]);
      await attempt(push, skopeo, [
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--src-creds",
        `admin:${adminPassword}`,
        "--dest-creds",
        `${username}:${secret}`,
        `docker://${pulled}`,
        `docker://${pushed}-copy`,
      ]);

      if ((await revoke()) === undefined) return;
      const gone = await podman.fail("login", noTls, ...authFile, "-u", username, "-p", secret, lab.host);
      expect(gone).toContain("invalid username/password");
      await attempt(false, podman, ["pull", noTls, ...authFile, pulled]);
      await attempt(false, skopeo, ["inspect", noTls, ...credentials, `docker://${pulled}`]);
    },
    testTimeoutMs * 2,
  );

  test(
    "are refused with what is no credential",
    async () => {
      for (const [username, secret] of [
        ["$app", "A".repeat(120)],
        ["$oauthtoken", "A".repeat(40)],
        ["$token", "anything"],
        ["admin+nobody", "A".repeat(64)],
      ] as const) {
        const refused = await podman.fail("login", noTls, "-u", username, "-p", secret, lab.host);
        expect(refused).toContain("invalid username/password");
      }
    },
    testTimeoutMs,
  );
});

async function attempt(allowed: boolean, client: Client, args: readonly string[]): Promise<void> {
  if (allowed) await client.run(...args);
  else expect(await client.fail(...args)).toMatch(/unauthorized|denied|invalid username\/password/i);
}
