/**
 * Sends mail over SMTP, by the MAIL_* keys of the config. What a mail says is not here (domain/mail), nor is any queue: a
 * mail is handed to the operator's server or fails, within a bounded time.
 */
import { readFileSync } from "node:fs";
import type { Config } from "../config/schema.ts";
import { RegistryError } from "../errors.ts";
import { Semaphore } from "../lib/semaphore.ts";
import { errorFields, type Logger } from "../observe/logger.ts";

/** One mail to one address. */
export interface Mail {
  readonly to: string;
  readonly subject: string;
  readonly text: string;
  readonly html: string;
}

export interface Mailer {
  /** False when FEATURE_MAILING is off or MAIL_SERVER is empty: every mail is dropped then, with a line in the log. */
  readonly isOn: boolean;
  /**
   * Resolves when the server has taken the mail, within SEND_TIMEOUT_MS. Throws `mail_failed`; never under
   * MAIL_FAIL_SILENTLY.
   */
  send(mail: Mail): Promise<void>;
  /** Begins to send and returns at once: for notices whose failure is the log's business alone, and not the caller's. */
  sendLater(mail: Mail): void;
  /** Connects and logs in as for a mail, without sending one. Throws what went wrong, in the mail server's words. */
  check(): Promise<void>;
  /** Waits for what is under way: at most SEND_TIMEOUT_MS. */
  close(): Promise<void>;
}

export interface MailerOptions {
  readonly config: Pick<
    Config,
    | "FEATURE_MAILING"
    | "MAIL_SERVER"
    | "MAIL_PORT"
    | "MAIL_USE_TLS"
    | "MAIL_USE_AUTH"
    | "MAIL_USERNAME"
    | "MAIL_PASSWORD"
    | "MAIL_DEFAULT_SENDER"
    | "MAIL_FAIL_SILENTLY"
  >;
  /** PEM files of authorities to trust beside the usual ones. */
  readonly extraCaPaths: readonly string[];
  readonly log: Logger;
  /** Default SEND_TIMEOUT_MS. */
  readonly timeoutMs?: number;
  /** Default IMPLICIT_TLS_PORT; a test may not bind that one. */
  readonly implicitTlsPort?: number;
}

/** From the call of `send` to the server's last word, waiting for a free connection included: somebody waits for it. */
const SEND_TIMEOUT_MS = 20_000;
/** Connections at once; a mail server takes more of them for an attack. */
const AT_ONCE_MAX = 4;
/** Mails that may wait for a connection. More means that the server is away, and they would only time out. */
const WAITING_MAX = 200;
/** The port of SMTP inside TLS from the first byte on. RFC 8314, section 3.3. */
const IMPLICIT_TLS_PORT = 465;
const ADDRESS_CHARS_MAX = 254;
const SUBJECT_CHARS_MAX = 200;

/**
 * Whether a text is one plain mail address: `local@domain` without quotes, comments, lists, white space or control
 * characters, at most 254 characters. Stricter than RFC 5322, so that no address can become two or a header.
 */
export function isPlainAddress(text: string): boolean {
  return (
    text.length <= ADDRESS_CHARS_MAX &&
    /^[^\s@<>()[\]\\,;:"\p{Cc}\p{Cf}]{1,64}@[^\s@<>()[\]\\,;:"\p{Cc}\p{Cf}]+$/u.test(text)
  );
}

/** A mailer for this config. Loads the SMTP client with its first mail: most starts send none. */
export function createMailer(options: MailerOptions): Mailer {
  const { config, log } = options;
  const timeoutMs = options.timeoutMs ?? SEND_TIMEOUT_MS;
  const isOn = config.FEATURE_MAILING && config.MAIL_SERVER !== "";
  const slots = new Semaphore(AT_ONCE_MAX, WAITING_MAX);
  const underWay = new Set<Promise<void>>();
  let opened: Transport | undefined;

  async function transport(): Promise<Transport> {
    opened ??= await openTransport(options);
    return opened;
  }

  async function deliver(mail: Mail): Promise<void> {
    if (!isOn)
      return log.info("a mail is not sent: MAIL_SERVER is empty or FEATURE_MAILING off", { subject: mail.subject });
    try {
      if (!isPlainAddress(mail.to)) throw new Error("the recipient is not one plain mail address");
      const signal = AbortSignal.timeout(timeoutMs);
      await slots.run(
        async () => {
          signal.throwIfAborted();
          const client = await transport();
          await client.sendMail(messageOf(config, mail, signal));
        },
        () => {
          throw new Error(`${WAITING_MAX} mails are waiting already`);
        },
      );
    } catch (cause) {
      // Never the text: it holds links that stand for a password.
      log.warn("a mail was not sent", { server: config.MAIL_SERVER, subject: mail.subject, ...errorFields(cause) });
      if (config.MAIL_FAIL_SILENTLY) return;
      const message = "The e-mail could not be sent. Please tell the administrator of this registry.";
      throw new RegistryError("mail_failed", { message, cause });
    }
  }

  return {
    isOn,
    send: deliver,
    sendLater(mail) {
      const sending = deliver(mail)
        .catch(() => undefined)
        .finally(() => underWay.delete(sending));
      underWay.add(sending);
    },
    async check() {
      const client = await transport();
      await client.verify();
    },
    async close() {
      await Promise.all(underWay);
    },
  };
}

type Transport = Awaited<ReturnType<typeof openTransport>>;

async function openTransport(options: MailerOptions) {
  const { config, extraCaPaths, implicitTlsPort = IMPLICIT_TLS_PORT, timeoutMs = SEND_TIMEOUT_MS } = options;
  // Not `import()`: of that the single binary lifts the library's own imports of node:http and others to its start, 10 ms.
  const { createTransport } = require("nodemailer") as typeof import("nodemailer");
  const isImplicit = config.MAIL_PORT === implicitTlsPort;
  return createTransport({
    host: config.MAIL_SERVER,
    port: config.MAIL_PORT,
    secure: isImplicit,
    // As in Quay: with MAIL_USE_TLS a server without STARTTLS gets nothing, without it the line stays in the clear.
    requireTLS: config.MAIL_USE_TLS && !isImplicit,
    ignoreTLS: !config.MAIL_USE_TLS,
    ...(config.MAIL_USE_AUTH ? { auth: { user: config.MAIL_USERNAME ?? "", pass: config.MAIL_PASSWORD ?? "" } } : {}),
    tls: extraCaPaths.length === 0 ? {} : { ca: await withExtraCas(extraCaPaths) },
    connectionTimeout: timeoutMs,
    greetingTimeout: timeoutMs,
    socketTimeout: timeoutMs,
    dnsTimeout: timeoutMs,
    // A mail is what we composed: nothing in it is ever read from a file or fetched.
    disableFileAccess: true,
    disableUrlAccess: true,
  });
}

/** The usual authorities and these. Loaded here and not above: reading the usual ones takes 40 ms of a start. */
async function withExtraCas(paths: readonly string[]): Promise<string[]> {
  const { rootCertificates } = await import("node:tls");
  return [...rootCertificates, ...paths.map((path) => readFileSync(path, "utf8"))];
}

function messageOf(config: MailerOptions["config"], mail: Mail, signal: AbortSignal) {
  return {
    from: config.MAIL_DEFAULT_SENDER ?? config.MAIL_USERNAME ?? "",
    // As an object it is taken as it is; a string would be parsed as a list.
    to: { name: "", address: mail.to },
    subject: mail.subject.replace(/[\s\p{Cc}]+/gu, " ").slice(0, SUBJECT_CHARS_MAX),
    text: mail.text,
    html: mail.html,
    // RFC 3834: keeps out-of-office robots from answering.
    headers: { "Auto-Submitted": "auto-generated" },
    signal,
  };
}
