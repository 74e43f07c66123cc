/** Addresses that agree to be told of events of a repository. Source: quay-api reference, sections 7 and 10. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { confirmRepositoryEmail } from "../../src/domain/repository/authorized-email.ts";
import { codeIn, type SmtpServer, startSmtp } from "../support/smtp.ts";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";
import { create } from "./repository-world.ts";

const path = "/repository/alice/app/authorizedemail";
let smtp: SmtpServer;
let api: Api;
let alice: ApiClient;
let bob: ApiClient;

beforeAll(async () => {
  smtp = await startSmtp({ refuses: (address) => (address.startsWith("refused") ? "no such mailbox" : undefined) });
  api = await startApi(smtp.config);
  for (const name of ["alice", "bob"]) await api.user(name);
  alice = await api.as("alice");
  bob = await api.as("bob");
  await create(alice, "alice/app");
}, 60_000);
afterAll(async () => {
  await api.stop();
  await smtp.stop();
});

describe("an address", () => {
  test("is asked by mail and counts when it confirms", async () => {
    const entry = { email: "ops@example.com", repository: "app", namespace: "alice", confirmed: false };
    expect((await alice.get(`${path}/ops@example.com`)).status).toBe(404);
    const asked = await alice.post(`${path}/ops@example.com`);
    expect([asked.status, asked.body]).toEqual([200, entry]);
    expect((await alice.get(`${path}/ops%40example.com`)).body).toEqual(entry);
    const code = codeIn(await smtp.next("ops@example.com"));
    expect(asked.text).not.toContain(code);

    await expect(confirmRepositoryEmail(api.app, "WRONG")).rejects.toThrow("Invalid or expired confirmation code");
    const confirmed = { repository: "alice/app", email: "ops@example.com" };
    expect(await confirmRepositoryEmail(api.app, code)).toEqual(confirmed);
    expect(await confirmRepositoryEmail(api.app, code)).toEqual(confirmed);
    expect((await alice.get(`${path}/ops@example.com`)).body).toEqual({ ...entry, confirmed: true });

    const before = smtp.mails.length;
    expect((await alice.post(`${path}/ops@example.com`)).body).toEqual({ ...entry, confirmed: true });
    expect(smtp.mails.length).toBe(before);
  });

  test("asked again gets a new code, and the old one is good no more", async () => {
    await alice.post(`${path}/again@example.com`);
    const old = codeIn(await smtp.next("again@example.com"));
    await alice.post(`${path}/again@example.com`);
    const code = codeIn(await smtp.next("again@example.com"));
    expect(code).not.toBe(old);
    await expect(confirmRepositoryEmail(api.app, old)).rejects.toThrow("Invalid or expired");
    expect(await confirmRepositoryEmail(api.app, code)).toMatchObject({ email: "again@example.com" });
  });

  test("keeps no code that could be read from the database, and not for ever", async () => {
    await alice.post(`${path}/late@example.com`);
    const code = codeIn(await smtp.next("late@example.com"));
    const [row] = await api.app.db.sql`/* test.code */
      select code_hash from authorized_email where email = 'late@example.com'`;
    expect(row?.code_hash).not.toContain(code);
    await api.app.db.tx(async (tx) => {
      await tx.sql`/* test.late */
        update authorized_email set created_ms = created_ms - ${8 * 24 * 3600 * 1000} where email = 'late@example.com'`;
    });
    await expect(confirmRepositoryEmail(api.app, code)).rejects.toThrow("Invalid or expired");
  });

  test("that is none, or holds lines of a mail's head, is refused and sent nothing", async () => {
    const before = smtp.mails.length;
    for (const address of [
      "nobody",
      "a@b",
      "a%0d%0aBcc:x@example.com",
      "two@example.com,x@example.com%20",
      "%20@e.com",
    ]) {
      const answer = await alice.post(`${path}/${address}`);
      expect([address, answer.status]).toEqual([address, 400]);
    }
    expect(smtp.mails.length).toBe(before);
  });

  test("whose server refuses the mail is told as Quay does", async () => {
    const answer = await alice.post(`${path}/refused@example.com`);
    expect([answer.status, Object.keys(answer.body)]).toEqual([400, ["message"]]);
  });

  test("is the business of the repository's admins, and goes with the repository", async () => {
    expect((await bob.post(`${path}/bob@example.com`)).status).toBe(403);
    expect((await bob.get(`${path}/ops@example.com`)).status).toBe(403);
    await create(alice, "alice/gone");
    await alice.post("/repository/alice/gone/authorizedemail/gone@example.com");
    const code = codeIn(await smtp.next("gone@example.com"));
    await alice.delete("/repository/alice/gone");
    await expect(confirmRepositoryEmail(api.app, code)).rejects.toThrow("Invalid or expired");
    await create(alice, "alice/gone");
    expect((await alice.get("/repository/alice/gone/authorizedemail/gone@example.com")).status).toBe(404);
  });

  test("is the hundred-and-first of a repository: refused", async () => {
    await create(alice, "alice/many");
    const { id } = await api.repository("alice/many");
    await api.app.db.tx(async (tx) => {
      for (let index = 0; index < 100; index++) {
        await tx.sql`/* test.many */ insert into authorized_email (repository_id, email, code_hash, created_ms)
          values (${id}, ${`e${index}@example.com`}, ${`hash ${index}`}, 1)`;
      }
    });
    const answer = await alice.post("/repository/alice/many/authorizedemail/more@example.com");
    expect([answer.status, envelopeOf(answer).detail]).toEqual([400, expect.stringContaining("100 addresses")]);
  });
});
