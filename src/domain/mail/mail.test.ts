/** What mails say, and that nothing a user chose can become markup, a line of its own or another link. */
import { describe, expect, test } from "bun:test";
import type { Mail } from "../../clients/smtp.ts";
import { loadConfig } from "../../config/load.ts";
import { escapeHtml } from "../../lib/html.ts";
import { writeLetter } from "./letter.ts";
import * as mails from "./mail.ts";

const overrides = {
  SERVER_HOSTNAME: "registry.example.com:8443",
  PREFERRED_URL_SCHEME: "https",
  EXTERNAL_TLS_TERMINATION: true,
};
const { config } = loadConfig({
  dataDir: ".",
  env: { QUAY_OVERRIDE_CONFIG: JSON.stringify({ ...overrides, REGISTRY_TITLE: "Ships & Co" }) },
});

/** The mail that a function hands over, and whether its caller waits for it. */
async function written(write: (app: Parameters<typeof mails.sendConfirmation>[0]) => Promise<void> | void) {
  const sent: { mail: Mail; isAwaited: boolean }[] = [];
  await write({
    config,
    mailer: {
      isOn: true,
      send: async (mail) => void sent.push({ mail, isAwaited: true }),
      sendLater: (mail) => void sent.push({ mail, isAwaited: false }),
      check: async () => undefined,
      close: async () => undefined,
    },
  });
  const [only, ...more] = sent;
  if (!only || more.length > 0) throw new Error(`${sent.length} mails instead of one`);
  return { ...only.mail, isAwaited: only.isAwaited };
}

const to = "alice@example.org";
const hostile = "<script>alert(\"1\")</script>\n\nSee https://evil.example/ & 'more'";
const base = "https://registry.example.com:8443";

const table: [name: string, write: Parameters<typeof written>[0], link: string | undefined, isAwaited: boolean][] = [
  [
    "confirmation",
    (app) => mails.sendConfirmation(app, { to, username: hostile, code: "a&b" }),
    "/confirm?code=a%26b",
    true,
  ],
  [
    "change of address",
    (app) => mails.sendEmailChangeConfirmation(app, { to, username: hostile, code: "c" }),
    "/confirm?code=c",
    true,
  ],
  [
    "recovery by a superuser",
    (app) => mails.sendRecovery(app, { to, username: hostile, code: "c", lifetimeMs: 1_800_000 }),
    "/recovery?code=c",
    true,
  ],
  [
    "recovery",
    (app) => mails.notifyRecovery(app, { to, username: hostile, code: "c", lifetimeMs: 1_800_000 }),
    "/recovery?code=c",
    false,
  ],
  [
    "organization recovery",
    (app) => mails.notifyOrganizationRecovery(app, { to, organization: hostile, admins: [hostile, "bob"] }),
    undefined,
    false,
  ],
  ["password changed", (app) => mails.notifyPasswordChanged(app, { to, username: hostile }), undefined, false],
  [
    "address changed",
    (app) => mails.notifyEmailChanged(app, { to, username: hostile, newEmail: hostile }),
    undefined,
    false,
  ],
  [
    "invitation",
    (app) =>
      mails.sendTeamInvitation(app, {
        to,
        username: hostile,
        inviter: hostile,
        organization: hostile,
        team: hostile,
        code: "c",
      }),
    "/confirminvite?code=c",
    true,
  ],
  [
    "invitation of a stranger",
    (app) => mails.sendTeamInvitation(app, { to, inviter: hostile, organization: "acme", team: "dev", code: "c" }),
    "/confirminvite?code=c",
    true,
  ],
  [
    "repository authorization",
    (app) => mails.sendRepositoryAuthorization(app, { to, username: hostile, repository: hostile, code: "c" }),
    "/authrepoemail?code=c",
    true,
  ],
  [
    "failed export",
    (app) =>
      mails.sendLogExport(app, {
        to,
        exportId: "e1",
        subject: hostile,
        fromDate: hostile,
        toDate: hostile,
        outcome: { status: "failed" },
      }),
    undefined,
    true,
  ],
  [
    "notification",
    (app) => mails.sendNotification(app, { to, subject: hostile, paragraphs: [hostile] }),
    undefined,
    true,
  ],
];

describe("every mail", () => {
  test.each(table)("%s holds its link and nothing else that can be clicked", async (_name, write, link, isAwaited) => {
    const mail = await written(write);
    expect(mail.to).toBe(to);
    expect(mail.isAwaited).toBe(isAwaited);
    expect(mail.subject).not.toMatch(/[\r\n]/);
    expect(mail.subject.length).toBeGreaterThan(5);
    expect([...mail.html.matchAll(/<a href="([^"]*)"/g)].map(([, url]) => url?.replaceAll("&amp;", "&"))).toEqual(
      link === undefined ? [] : [base + link],
    );
    if (link !== undefined) expect(mail.text).toContain(`:\n${base}${link}\n`);
    expect(mail.html).not.toContain("<script>");
    expect(mail.html.replace(/<\/?(?:html|body|p|a)\b[^<>]*>|<!doctype html>/g, "")).not.toMatch(/[<>]/);
    // A line of the plain text that begins with the user's own words would be a paragraph of theirs.
    expect(mail.text).not.toMatch(/^See https/m);
    expect(mail.text).toEndWith("\n\nShips & Co\n");
    expect(mail.html).toContain("<p>Ships &amp; Co</p>");
  });
});

describe("a log export", () => {
  test("links to the file and says how long", async () => {
    const url = "https://files.example.com/x?a=1&b=2";
    const mail = await written((app) =>
      mails.sendLogExport(app, {
        to,
        exportId: "e1",
        subject: "acme/api",
        fromDate: "11/01/2026",
        toDate: "11/20/2026",
        outcome: { status: "success", url, lifetimeMs: 3_600_000 },
      }),
    );
    expect(mail.subject).toBe('The logs of "acme/api" are ready');
    expect(mail.text).toContain(url);
    expect(mail.html).toContain('<a href="https://files.example.com/x?a=1&amp;b=2">');
    expect(mail.text).toContain("60 minutes");
  });
});

describe("a letter", () => {
  test("escapes what HTML reads", () => {
    expect(escapeHtml(`<a b="c" d='e'>&amp;`)).toBe("&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;amp;");
  });

  test("is the same in text and HTML, and cuts what is endless", () => {
    const mail = writeLetter(config, {
      to,
      subject: "s",
      name: "n",
      paragraphs: ["x".repeat(100_000)],
      closing: ["bye"],
    });
    expect(mail.text).toMatch(/^Hello n,\n\nx{2000}\n\nbye\n\nShips & Co\n$/);
    expect(mail.html).toContain("<p>bye</p>");
  });
});
