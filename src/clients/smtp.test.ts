/** The SMTP client against a real server: every way to connect and to fail. */
import { afterEach, describe, expect, test } from "bun:test";
import { type SmtpOptions, type SmtpServer, startSmtp } from "../../test/support/smtp.ts";
import { RegistryError } from "../errors.ts";
import { createLogger } from "../observe/logger.ts";
import { createMailer, isPlainAddress, type MailerOptions } from "./smtp.ts";

const mail = { to: "alice@example.org", subject: "Hello", text: "plain words\n", html: "<p>marked-up words</p>" };
const running: SmtpServer[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.stop()));
});

async function start(options: SmtpOptions = {}): Promise<SmtpServer> {
  const server = await startSmtp(options);
  running.push(server);
  return server;
}

const defaults: MailerOptions["config"] = {
  FEATURE_MAILING: true,
  MAIL_SERVER: "localhost",
  MAIL_PORT: 25,
  MAIL_USE_TLS: false,
  MAIL_USE_AUTH: false,
  MAIL_USERNAME: null,
  MAIL_PASSWORD: null,
  MAIL_DEFAULT_SENDER: "Registry <registry@example.com>",
  MAIL_FAIL_SILENTLY: false,
};

function mailerFor(
  server: SmtpServer,
  config: Partial<MailerOptions["config"]> = {},
  more: Partial<MailerOptions> = {},
) {
  const lines: string[] = [];
  const clock = { nowMs: () => 0 };
  const log = createLogger({ clock, level: "info", format: "json", write: (text) => lines.push(text) });
  const keys = { ...defaults, ...(server.config as Partial<MailerOptions["config"]>), ...config };
  const mailer = createMailer({ config: keys, extraCaPaths: [], log, ...more });
  return {
    mailer,
    logs() {
      log.flush();
      return lines.join("");
    },
  };
}

async function failureOf(work: Promise<void>): Promise<RegistryError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof RegistryError)) throw new Error(`not a RegistryError: ${error}`);
  return error;
}

describe("a mail", () => {
  test("arrives as it was written, in the clear where MAIL_USE_TLS is off", async () => {
    const server = await start();
    await mailerFor(server).mailer.send(mail);
    const got = await server.next(mail.to);
    expect(got.recipients).toEqual([mail.to]);
    expect(got.from).toBe("registry@example.com");
    expect(got.parsed.from?.text).toBe('"Registry" <registry@example.com>');
    expect(got.parsed.headers.get("auto-submitted")).toBe("auto-generated");
    expect([got.subject, got.text.trim(), got.html.trim()]).toEqual(["Hello", "plain words", "<p>marked-up words</p>"]);
    expect([got.secure, got.username]).toEqual([false, undefined]);
  });

  test("goes through STARTTLS where MAIL_USE_TLS is on, with a certificate that extra_ca_certs vouches for", async () => {
    const server = await start({ tls: "starttls" });
    await mailerFor(server, {}, { extraCaPaths: [server.caPath ?? ""] }).mailer.send(mail);
    expect((await server.next(mail.to)).secure).toBe(true);
  });

  test("goes through TLS from the first byte on at that port", async () => {
    const server = await start({ tls: "implicit" });
    const more = { extraCaPaths: [server.caPath ?? ""], implicitTlsPort: server.port };
    await mailerFor(server, { MAIL_USE_TLS: true }, more).mailer.send(mail);
    expect((await server.next(mail.to)).secure).toBe(true);
  });

  test("does not go to a server whose certificate nobody vouches for", async () => {
    const server = await start({ tls: "starttls" });
    const { mailer, logs } = mailerFor(server);
    expect((await failureOf(mailer.send(mail))).code).toBe("mail_failed");
    expect(logs()).toContain("self");
    expect(server.mails).toEqual([]);
  });

  test("does not go in the clear when STARTTLS is wanted and not offered", async () => {
    const server = await start();
    expect((await failureOf(mailerFor(server, { MAIL_USE_TLS: true }).mailer.send(mail))).code).toBe("mail_failed");
    expect(server.mails).toEqual([]);
  });

  test("is sent after log-in", async () => {
    const server = await start({ auth: { username: "berth", password: "p@ss word" }, tls: "starttls" });
    await mailerFor(server, {}, { extraCaPaths: [server.caPath ?? ""] }).mailer.send(mail);
    expect((await server.next(mail.to)).username).toBe("berth");
  });

  test("is not sent with a wrong password, which no log line repeats", async () => {
    const server = await start({ auth: { username: "berth", password: "right" } });
    const { mailer, logs } = mailerFor(server, { MAIL_PASSWORD: "wrong-and-secret" });
    const error = await failureOf(mailer.send(mail));
    expect(error.code).toBe("mail_failed");
    expect(error.message).toBe("The e-mail could not be sent. Please tell the administrator of this registry.");
    expect(logs()).toContain("Invalid username or password");
    expect(logs()).not.toContain("wrong-and-secret");
    expect(server.mails).toEqual([]);
  });

  test("fails when the server refuses the recipient", async () => {
    const server = await start({ refuses: (address) => (address === mail.to ? "no such user" : undefined) });
    const { mailer, logs } = mailerFor(server);
    await failureOf(mailer.send(mail));
    expect(logs()).toContain("no such user");
  });

  test("fails in bounded time when the server is away or silent", async () => {
    const away = await start();
    await away.stop();
    running.pop();
    const startedMs = performance.now();
    expect((await failureOf(mailerFor(away).mailer.send(mail))).code).toBe("mail_failed");
    expect(performance.now() - startedMs).toBeLessThan(5000);

    const silent = await start({ isSilent: true });
    const { mailer } = mailerFor(silent, {}, { timeoutMs: 300 });
    const silentMs = performance.now();
    // More than there are connections: those that wait give up with the others.
    const failures = await Promise.all(Array.from({ length: 10 }, () => failureOf(mailer.send(mail))));
    expect(failures.map(({ code }) => code)).toEqual(Array(10).fill("mail_failed"));
    expect(performance.now() - silentMs).toBeLessThan(3000);
  }, 20_000);

  test("is forgotten without an error under MAIL_FAIL_SILENTLY, but not by the log", async () => {
    const server = await start({ refuses: () => "no such user" });
    const { mailer, logs } = mailerFor(server, { MAIL_FAIL_SILENTLY: true });
    await mailer.send(mail);
    expect(logs()).toContain("a mail was not sent");
  });

  test("sent later arrives before close returns, and its failure is nobody's", async () => {
    const server = await start();
    const { mailer } = mailerFor(server);
    mailer.sendLater(mail);
    mailer.sendLater({ ...mail, to: "not an address" });
    await mailer.close();
    expect(server.mails.length).toBe(1);
  });

  test("is dropped with a log line that holds no text when mailing is off", async () => {
    const server = await start();
    for (const config of [{ MAIL_SERVER: "" }, { FEATURE_MAILING: false }]) {
      const { mailer, logs } = mailerFor(server, config);
      expect(mailer.isOn).toBe(false);
      await mailer.send(mail);
      expect(logs()).toContain("a mail is not sent");
      expect(logs()).not.toContain("plain words");
    }
    expect(server.mails).toEqual([]);
  });
});

describe("injection", () => {
  const hostile = [
    "a@example.org,b@example.org",
    "a@example.org b@example.org",
    "a@example.org;b@example.org",
    "a@example.org\r\nBcc: b@example.org",
    "a@example.org\nRCPT TO:<b@example.org>",
    "Alice <a@example.org>",
    "<a@example.org>",
    '"a b"@example.org',
    "a@b@example.org",
    "group: a@example.org",
    "a(comment)@example.org",
    "a@example.org\u0000",
    "a@example.org\u2028b",
    "@example.org",
    "a@",
    "",
    `${"a".repeat(65)}@example.org`,
    `a@${"b".repeat(260)}`,
  ];

  test("no recipient can become two, or a header", async () => {
    const server = await start();
    const { mailer } = mailerFor(server);
    for (const to of hostile) {
      expect({ to, ok: isPlainAddress(to) }).toEqual({ to, ok: false });
      expect((await failureOf(mailer.send({ ...mail, to }))).code).toBe("mail_failed");
    }
    for (const to of ["a@b", "first.last+tag@mail.example.org", "o'brien@example.org", "jörg@müller.example"]) {
      expect({ to, ok: isPlainAddress(to) }).toEqual({ to, ok: true });
    }
    expect(server.mails).toEqual([]);
  });

  test("a subject stays one header", async () => {
    const server = await start();
    await mailerFor(server).mailer.send({ ...mail, subject: "Hi\r\nBcc: b@example.org\r\n\r\nbody \u0000 ünder" });
    const got = await server.next(mail.to);
    expect(got.subject).toBe("Hi Bcc: b@example.org body ünder");
    expect(got.parsed.bcc).toBeUndefined();
    expect(got.recipients).toEqual([mail.to]);
  });

  test("a text cannot end the message early", async () => {
    const server = await start();
    const text = "one\r\n.\r\nMAIL FROM:<x@example.org>\r\n.two\n.\n";
    await mailerFor(server).mailer.send({ ...mail, text });
    const got = await server.next(mail.to);
    expect(got.text).toContain("MAIL FROM:<x@example.org>\n.two\n.");
    expect(server.mails.length).toBe(1);
  });
});
