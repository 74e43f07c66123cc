/** Whether somebody exists can be told neither from the words of a refused log-in nor from the work that went into it. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { App } from "../../src/app.ts";
import { createUser } from "../../src/domain/user/account.ts";
import { signIn } from "../../src/domain/user/sign-in.ts";
import { createHttp } from "../../src/http/server.ts";
import { basicOf } from "../registry/harness.ts";
import { type Api, startApi } from "./harness.ts";

setDefaultTimeout(60_000);
/** Names of each sort: one for each test, because a name is locked out after one wrong password. */
const SAMPLES = 2;
const facts = { tagExpirationSeconds: 0, nowMs: 1 };
let api: Api;
beforeAll(async () => {
  api = await startApi();
  // As expensive as those the server makes, unlike the users of other tests.
  const passwordHash = await api.app.passwords.hash("the-right-password");
  await api.app.db.tx(async (tx) => {
    for (let index = 0; index < SAMPLES; index++) {
      const email = `user${index}@example.com`;
      await createUser(tx, { username: `user-${index}`, email, passwordHash }, facts);
      await createUser(tx, { username: `disabled-${index}`, passwordHash }, facts);
      await createUser(tx, { username: `without-${index}`, passwordHash: undefined }, facts);
    }
    await tx.sql`update account set enabled = false where username like 'disabled-%'`;
  });
  const admin = await api.as("admin");
  for (let index = 0; index < SAMPLES; index++) {
    await admin.post("/organization/", { name: `acme-${index}` });
    await api.robot(`acme-${index}`, "ci");
  }
}, 60_000);
afterAll(() => api.stop());

const NAMES: [string, (index: number) => string][] = [
  ["a user", (index) => `user-${index}`],
  ["a disabled user", (index) => `disabled-${index}`],
  ["a user without a password", (index) => `without-${index}`],
  ["nobody", (index) => `nobody-${index}`],
  ["an organization", (index) => `acme-${index}`],
  ["a robot", (index) => `acme-${index}+ci`],
];

const REQUEST = { ip: undefined, userAgent: undefined };
const WRONG = "not-it-at-all";

/** Asks for all of these names in a process that counts, and gives for each what a refusal was and cost. */
async function refusals(
  ask: (app: App, login: string) => Promise<object>,
  sample: number,
): Promise<Record<string, object>> {
  const found: Record<string, object> = {};
  for (const [who, name] of NAMES) {
    let hashes = 0;
    const { passwords, db } = api.app;
    const counting: App["passwords"] = {
      ...passwords,
      verify(password, hash) {
        hashes++;
        return passwords.verify(password, hash);
      },
      verifyNothing(password) {
        hashes++;
        return passwords.verifyNothing(password);
      },
    };
    const before = db.stats.transactions;
    const refused = await ask({ ...api.app, passwords: counting }, name(sample));
    found[who] = { ...refused, hashes, transactions: db.stats.transactions - before };
  }
  return found;
}

/** What everybody in `NAMES` is to be told, at the same price. */
const alike = (expected: object) => Object.fromEntries(NAMES.map(([who]) => [who, expected]));

// A hash is nearly all of the time that a refusal takes: who costs as many is told as late.
describe("a wrong password costs one hash and one transaction, whoever it is for", () => {
  test("at the sign-in page", async () => {
    const ask = (app: App, login: string) =>
      signIn(app, { login, password: WRONG, before: undefined, request: REQUEST });
    expect(await refusals(ask, 0)).toEqual(
      alike({
        token: undefined,
        needsEmailVerification: false,
        invalidCredentials: true,
        message: "Invalid Username or Password",
        hashes: 1,
        transactions: 1,
      }),
    );
  });
  test("at /v2", async () => {
    const ask = async (app: App, login: string) => {
      const asked = new Request(`${api.berth.url}/v2/auth`, { headers: basicOf(login, WRONG) });
      const response = await createHttp(app).fetch(asked, { clientIp: undefined });
      return { status: response.status, body: await response.json() };
    };
    const error = {
      code: "UNAUTHORIZED",
      message: "Invalid Username or Password",
      detail: { decision: "credentials" },
    };
    const refused = { status: 401, body: { errors: [error] }, hashes: 1, transactions: 1 };
    // A robot is told by its name. Its token is random, so that comparing it costs next to nothing.
    const message = "Could not find robot with username: acme-1+ci and supplied password.";
    const robot = { ...refused, body: { errors: [{ ...error, message }] }, hashes: 0, transactions: 0 };
    expect(await refusals(ask, 1)).toEqual({ ...alike(refused), "a robot": robot });
    const missing = await ask(api.app, "acme-1+nobody");
    expect(missing).toEqual({
      status: 401,
      body: { errors: [{ ...error, message: message.replace("+ci", "+nobody") }] },
    });
  });
});
