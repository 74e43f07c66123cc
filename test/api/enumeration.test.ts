/** Whether somebody exists can be told neither from the words of a refused log-in nor from the work that went into it. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { App } from "../../src/app.ts";
import { createUser } from "../../src/domain/user/account.ts";
import { signIn } from "../../src/domain/user/sign-in.ts";
import { basicOf } from "../registry/harness.ts";
import { type Api, startApi } from "./harness.ts";
import { signInAs } from "./sign-in.ts";

setDefaultTimeout(60_000);
/** Names of each sort: as many as there are samples, because one name is locked out after one wrong password. */
const SAMPLES = 9;
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
  await (await api.as("admin")).post("/organization/", { name: "acme" });
  await api.robot("acme", "ci");
}, 60_000);
afterAll(() => api.stop());

const NAMES: [string, (index: number) => string][] = [
  ["a user", (index) => `user-${index}`],
  ["a disabled user", (index) => `disabled-${index}`],
  ["a user without a password", (index) => `without-${index}`],
  ["nobody", (index) => `nobody-${index}`],
  ["an organization", () => "acme"],
  ["a robot", () => "acme+ci"],
];

describe("a wrong password", () => {
  test("costs one hash and one transaction, whoever it is for", async () => {
    const found: Record<string, unknown> = {};
    for (const [who, name] of NAMES) {
      let hashes = 0;
      const app: App = {
        ...api.app,
        passwords: {
          ...api.app.passwords,
          verify(password, hash) {
            hashes++;
            return api.app.passwords.verify(password, hash);
          },
          verifyNothing(password) {
            hashes++;
            return api.app.passwords.verifyNothing(password);
          },
        },
      };
      const before = api.app.db.stats.transactions;
      const request = { ip: undefined, userAgent: undefined };
      const refused = await signIn(app, { login: name(0), password: "not-it-at-all", before: undefined, request });
      found[who] = { ...refused, hashes, transactions: api.app.db.stats.transactions - before };
    }
    const expected = {
      token: undefined,
      needsEmailVerification: false,
      invalidCredentials: true,
      message: "Invalid Username or Password",
      hashes: 1,
      transactions: 1,
    };
    expect(found).toEqual(Object.fromEntries(NAMES.map(([who]) => [who, expected])));
  });
  test("takes as long for a user as for nobody, on the page and at /v2", async () => {
    const page = (name: string) => signInAs(api, name, "not-it-at-all");
    const client = (name: string) => fetch(`${api.berth.url}/v2/auth`, { headers: basicOf(name, "not-it-at-all") });
    await page("warm-up");
    for (const [ask, from, to] of [
      [page, 1, 5],
      [client, 5, SAMPLES],
    ] as const) {
      const [user, nobody]: [number[], number[]] = [[], []];
      for (let index = from; index < to; index++) {
        user.push(await timed(() => ask(`user-${index}`)));
        nobody.push(await timed(() => ask(`nobody-${index}`)));
      }
      const ratio = median(nobody) / median(user);
      // A hash is nearly all of it: without one the time would be a tenth.
      expect(ratio).toBeGreaterThan(0.4);
      expect(ratio).toBeLessThan(2.5);
    }
  });
});

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return performance.now() - startedMs;
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}
