/**
 * A real SMTP server on a port of its own that keeps what it is sent, for tests of mail. Log-in, STARTTLS and TLS from the
 * first byte with a certificate made for it by openssl.
 */
import { join } from "node:path";
import { type ParsedMail, simpleParser } from "mailparser";
import { SMTPServer } from "smtp-server";
import { runProcess } from "./process.ts";
import { makeTempDir } from "./temp-dir.ts";
import { requireTool } from "./tools.ts";

export interface SmtpOptions {
  /** Who may send; without it everybody may and log-in is not offered. */
  readonly auth?: { readonly username: string; readonly password: string };
  /** Default "none": STARTTLS is not offered. "implicit" is TLS from the first byte on. */
  readonly tls?: "none" | "starttls" | "implicit";
  /** Takes the connection and never greets. */
  readonly isSilent?: boolean;
  /** What to answer to a recipient; by default everybody is accepted. */
  readonly refuses?: (address: string) => string | undefined;
}

export interface ReceivedMail {
  /** Envelope addresses. */
  readonly from: string;
  readonly recipients: readonly string[];
  /** Whether the line was encrypted when the mail came. */
  readonly secure: boolean;
  /** Name that it was sent with. */
  readonly username: string | undefined;
  readonly raw: string;
  readonly parsed: ParsedMail;
  readonly subject: string;
  readonly text: string;
  readonly html: string;
}

export interface SmtpServer {
  readonly port: number;
  /** Everything so far, oldest first. */
  readonly mails: readonly ReceivedMail[];
  /** Path of the certificate to trust, with TLS. */
  readonly caPath: string | undefined;
  /**
   * Keys of config.yaml that send here. SERVER_HOSTNAME is among them, because links in mails need it; requests may go to
   * any name still.
   */
  readonly config: Record<string, unknown>;
  /** The next mail to this address that was not given before; waits for it. Throws after `timeoutMs`. */
  next(to: string, timeoutMs?: number): Promise<ReceivedMail>;
  stop(): Promise<void>;
}

/** Hostname of the links in mails that tests read. */
export const mailHostname = "registry.example.com";

/** Starts on 127.0.0.1; the certificate is for `localhost` and 127.0.0.1. */
export async function startSmtp(options: SmtpOptions = {}): Promise<SmtpServer> {
  const tls = options.tls ?? "none";
  const certificate = tls === "none" ? undefined : await makeCertificate();
  const mails: ReceivedMail[] = [];
  const given = new Set<ReceivedMail>();
  const hidden = ["PIPELINING", ...(tls === "starttls" ? [] : ["STARTTLS"]), ...(options.auth ? [] : ["AUTH"])];
  const server = new SMTPServer({
    secure: tls === "implicit",
    ...(certificate ? { key: certificate.key, cert: certificate.cert } : {}),
    disabledCommands: hidden,
    disableReverseLookup: true,
    authOptional: options.auth === undefined,
    allowInsecureAuth: true,
    closeTimeout: 1000,
    logger: false,
    onConnect(_session, callback) {
      if (!options.isSilent) callback();
    },
    onAuth(auth, _session, callback) {
      const isRight = auth.username === options.auth?.username && auth.password === options.auth?.password;
      if (isRight) callback(null, { user: auth.username });
      else callback(new Error("Invalid username or password"));
    },
    onRcptTo(address, _session, callback) {
      const refusal = options.refuses?.(address.address ?? "");
      callback(refusal === undefined ? null : new Error(refusal));
    },
    onData(stream, session, callback) {
      const chunks: Buffer[] = [];
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("end", async () => {
        const raw = Buffer.concat(chunks).toString("utf8");
        const parsed = await simpleParser(raw);
        const { mailFrom, rcptTo } = session.envelope;
        mails.push({
          from: mailFrom === false ? "" : (mailFrom.address ?? ""),
          recipients: rcptTo.map(({ address }) => address ?? ""),
          secure: session.secure,
          username: typeof session.user === "string" ? session.user : undefined,
          raw,
          parsed,
          subject: parsed.subject ?? "",
          text: parsed.text ?? "",
          html: parsed.html || "",
        });
        callback();
      });
    },
  });
  // A client that goes away in the middle is what some tests do.
  server.on("error", () => undefined);
  const port = await new Promise<number>((resolve, reject) => {
    server.server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.server.address();
      if (address === null || typeof address === "string") reject(new Error("the SMTP server has no port"));
      else resolve(address.port);
    });
  });
  return {
    port,
    mails,
    caPath: certificate?.path,
    config: {
      FEATURE_MAILING: true,
      SERVER_HOSTNAME: mailHostname,
      MAIL_SERVER: "localhost",
      MAIL_PORT: port,
      MAIL_USE_TLS: tls === "starttls",
      MAIL_DEFAULT_SENDER: "Registry <registry@example.com>",
      ...(options.auth
        ? { MAIL_USE_AUTH: true, MAIL_USERNAME: options.auth.username, MAIL_PASSWORD: options.auth.password }
        : {}),
    },
    async next(to, timeoutMs = 5000) {
      const deadline = performance.now() + timeoutMs;
      for (;;) {
        const mail = mails.find((each) => !given.has(each) && each.recipients.includes(to));
        if (mail) {
          given.add(mail);
          return mail;
        }
        if (performance.now() > deadline) throw new Error(`no mail to "${to}" within ${timeoutMs} ms`);
        await Bun.sleep(10);
      }
    },
    async stop() {
      await new Promise<void>((resolve) => server.close(() => resolve()));
      certificate?.remove();
    },
  };
}

/** The code in the link of a mail: what a user would click. Throws when there is none. */
export function codeIn(mail: Pick<ReceivedMail, "text">): string {
  const code = /[?&]code=([^\s&]+)/.exec(mail.text)?.[1];
  if (code === undefined) throw new Error(`no code in the mail:\n${mail.text}`);
  return decodeURIComponent(code);
}

async function makeCertificate() {
  const dir = makeTempDir("smtp");
  const path = join(dir.path, "smtp.cert");
  const keyPath = join(dir.path, "smtp.key");
  await runProcess({
    command: requireTool("openssl"),
    args: [
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
      ...["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
      ...["-keyout", keyPath, "-out", path],
    ],
  });
  return { path, key: await Bun.file(keyPath).text(), cert: await Bun.file(path).text(), remove: () => dir.remove() };
}
