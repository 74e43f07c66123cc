/** `berth user …` beside a running registry: what it changes holds there within a second. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { basicAuthorization, RegistryClient } from "../support/registry-client.ts";
import { exitCodes } from "./command.ts";
import { type Served, serveWithCommands, within } from "./harness.ts";

setDefaultTimeout(60_000);
/** What DESIGN promises for changes made by another process, beside the time the command itself takes. */
const effectiveMs = 1000;
let served: Served;
beforeAll(async () => {
  served = await serveWithCommands();
});
afterAll(() => served.stop());

/** Status of the token service for these credentials: what `podman login` looks at. */
async function login(username: string, password: string): Promise<number> {
  const response = await fetch(`${served.berth.url}/v2/auth`, {
    headers: { authorization: basicAuthorization(username, password) },
  });
  await response.body?.cancel();
  return response.status;
}

async function pullStatus(client: RegistryClient, repository: string): Promise<number> {
  client.forgetTokens();
  const response = await client.pullManifest(repository, "v1");
  await response.body?.cancel();
  return response.status;
}

const client = (username?: string, password?: string) =>
  new RegistryClient({
    url: served.berth.url,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
  });

test("create makes a user with a password that is printed, or with the one from stdin", async () => {
  const made = await served.run(["user", "create", "alice"]);
  expect({ code: made.code, stderr: made.stderr }).toEqual({ code: exitCodes.ok, stderr: "" });
  expect(made.stdout).toMatch(/^\S{20,}\n$/);
  expect(await login("alice", made.stdout.trim())).toBe(200);

  const given = await served.run(["user", "create", "bob", "--password-stdin"], "bobs-own-password\n");
  expect(given).toMatchObject({ code: exitCodes.ok, stdout: 'user "bob" created\n' });
  expect(await login("bob", "bobs-own-password")).toBe(200);

  const again = await served.run(["user", "create", "bob"]);
  expect(again.code).toBe(exitCodes.failed);
  expect(again.stderr).toStartWith("berth user: ");
  const short = await served.run(["user", "create", "carl", "--password-stdin"], "short");
  expect(short.code).toBe(exitCodes.failed);
  expect(short.stderr.toLowerCase()).toContain("password");
  expect((await served.run(["user", "list"])).stdout).toBe("admin\nalice\nbob\n");
});

test("password changes it, and the old one is no good any more", async () => {
  await served.run(["user", "create", "dora", "--password-stdin"], "the-first-password");
  expect(await login("dora", "the-first-password")).toBe(200);
  const changed = await served.run(["user", "password", "dora", "--password-stdin"], "the-second-password");
  expect(changed).toMatchObject({ code: exitCodes.ok, stdout: 'password of "dora" changed\n' });
  await Bun.sleep(effectiveMs);
  expect(await login("dora", "the-second-password")).toBe(200);
  // The wrong one last: each makes the account wait before its next try.
  expect(await login("dora", "the-first-password")).toBe(401);
  const nobody = await served.run(["user", "password", "nobody"]);
  expect(nobody).toMatchObject({ code: exitCodes.failed, stderr: 'berth user: there is no account "nobody"\n' });
});

test("disable locks out, enable lets in again, and list tells", async () => {
  await served.run(["user", "create", "emil", "--password-stdin"], "emils-own-password");
  expect(await login("emil", "emils-own-password")).toBe(200);
  await served.run(["user", "disable", "emil"]);
  await within(effectiveMs, async () => (await login("emil", "emils-own-password")) !== 200);
  expect((await served.run(["user", "list"])).stdout).toContain("emil (disabled)\n");
  await served.run(["user", "enable", "emil"]);
  await within(effectiveMs, async () => (await login("emil", "emils-own-password")) === 200);
});

test("robot, grant and publish open a repository step by step, and unpublish closes it", async () => {
  const admin = client("admin", served.berth.adminPassword);
  expect((await admin.pushImage("admin/app", "v1")).response.status).toBe(201);
  const made = await served.run(["user", "robot", "admin+ci"]);
  expect({ code: made.code, stderr: made.stderr }).toEqual({ code: exitCodes.ok, stderr: "" });
  const robot = client("admin+ci", made.stdout.trim());
  const stranger = client();

  expect(await pullStatus(robot, "admin/app")).not.toBe(200);
  const granted = await served.run(["user", "grant", "admin+ci", "admin/app", "--role", "read"]);
  expect(granted).toMatchObject({ code: exitCodes.ok, stdout: '"admin+ci" has role read on "admin/app"\n' });
  await within(effectiveMs, async () => (await pullStatus(robot, "admin/app")) === 200);
  expect((await robot.pushImage("admin/app", "v2").catch(() => undefined))?.response.status).not.toBe(201);

  expect(await pullStatus(stranger, "admin/app")).toBe(401);
  await served.run(["user", "publish", "admin/app"]);
  await within(effectiveMs, async () => (await pullStatus(stranger, "admin/app")) === 200);
  await served.run(["user", "unpublish", "admin/app"]);
  await within(effectiveMs, async () => (await pullStatus(stranger, "admin/app")) === 401);

  await served.run(["user", "grant", "admin+ci", "admin/app", "--role", "none"]);
  await within(effectiveMs, async () => (await pullStatus(robot, "admin/app")) !== 200);
});

test("what does not exist, and roles that are none, are refused", async () => {
  const cases: [string[], number, string][] = [
    [["grant", "admin", "admin/nothing", "--role", "read"], exitCodes.failed, 'there is no repository "admin/nothing"'],
    [["grant", "nobody", "admin/app", "--role", "read"], exitCodes.failed, 'there is no account "nobody"'],
    [["grant", "admin", "admin/app", "--role", "owner"], exitCodes.usage, "usage: berth user"],
    [["robot", "nobody+ci"], exitCodes.failed, 'there is no account "nobody"'],
    [["publish", "../etc"], exitCodes.failed, "../etc"],
  ];
  for (const [args, code, text] of cases) {
    const result = await served.run(["user", ...args]);
    expect(result.stderr).toContain(text);
    expect(result.code).toBe(code);
  }
});

test("no password or token of all this is in the server's log", async () => {
  for (const secret of ["bobs-own-password", "the-second-password", "emils-own-password", served.berth.adminPassword]) {
    expect(served.berth.logs()).not.toContain(secret);
  }
});
