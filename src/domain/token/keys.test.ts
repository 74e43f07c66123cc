/** Which keys verify, on each engine: known ones always, also while others are being looked for. */
import { expect, test } from "bun:test";
import { withDatabases } from "../../../test/support/database.ts";
import { migrate } from "../../db/migrate.ts";
import { migrations } from "../../db/migrations.ts";
import { createSecretBox } from "../../lib/secret-box.ts";
import { TokenKeys } from "./keys.ts";

withDatabases("token keys", (databases) => {
  const dayMs = 24 * 3600 * 1000;

  async function start() {
    const db = await databases.open();
    await migrate(db, migrations);
    let nowMs = 1_800_000_000_000;
    const clock = { nowMs: () => nowMs };
    const make = () => new TokenKeys({ db, clock, secrets: createSecretBox("secret"), service: "quay" });
    return {
      db,
      make,
      pass: (ms: number) => {
        nowMs += ms;
      },
    };
  }

  test("the first requests after a start find the key, however many come at once", async () => {
    const { make } = await start();
    const { kid } = await make().signingKey();
    const restarted = make();
    const found = await Promise.all(Array.from({ length: 20 }, () => restarted.verifyingKey(kid)));
    expect(found.every((key) => key !== undefined)).toBe(true);
  }, 60_000);

  test("a known key is known while an unknown one is looked for", async () => {
    const { make, pass } = await start();
    const keys = make();
    const { kid } = await keys.signingKey();
    pass(5000);
    const asked = [
      keys.verifyingKey("forged"),
      keys.verifyingKey(kid),
      keys.verifyingKey("forged-2"),
      keys.verifyingKey(kid),
    ];
    const [forged, known, other, again] = await Promise.all(asked);
    expect([forged, other]).toEqual([undefined, undefined]);
    expect(known).toBeDefined();
    expect(again).toBeDefined();
  }, 60_000);

  test("unknown keys cost one query a second, not one each", async () => {
    const { make, db, pass } = await start();
    const keys = make();
    await keys.signingKey();
    pass(5000);
    const before = db.stats.queries;
    for (let round = 0; round < 50; round++) expect(await keys.verifyingKey(`forged-${round}`)).toBeUndefined();
    expect(db.stats.queries - before).toBe(1);
  }, 60_000);

  test("a new key verifies at once, also right after an unknown one; the old one goes on for a day", async () => {
    const { make, pass } = await start();
    const keys = make();
    const old = await keys.signingKey();
    pass(dayMs);
    await keys.verifyingKey("forged");
    const young = await keys.signingKey();
    expect(young.kid).not.toBe(old.kid);
    expect(await keys.verifyingKey(young.kid)).toBeDefined();
    expect(await keys.verifyingKey(old.kid)).toBeDefined();
    pass(dayMs + 1);
    expect(await keys.verifyingKey(old.kid)).toBeUndefined();
  }, 60_000);

  test("two instances that start at once share one key", async () => {
    const { make } = await start();
    const kids = await Promise.all([make().signingKey(), make().signingKey(), make().signingKey()]);
    expect(new Set(kids.map(({ kid }) => kid)).size).toBe(1);
  }, 60_000);
});
