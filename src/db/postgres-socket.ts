/**
 * Opens the sockets that postgres.js speaks over, with libpq's meaning of the six sslmodes. postgres.js knows fewer modes and
 * never falls back, so negotiation happens here and it is handed a socket that is ready for the start-up message.
 */

import { readFileSync } from "node:fs";
import { isIP, connect as netConnect, type Socket } from "node:net";
import * as tls from "node:tls";
import type { PostgresAddress, PostgresHost, SslMode } from "./postgres-address.ts";

type Channel = "plain" | "tls";

/** What each mode tries, in order. Source: libpq, "SSL Mode Descriptions". */
const channels: Record<SslMode, readonly [Channel, ...Channel[]]> = {
  disable: ["plain"],
  allow: ["plain", "tls"],
  prefer: ["tls", "plain"],
  require: ["tls"],
  "verify-ca": ["tls"],
  "verify-full": ["tls"],
};

/** How long it is remembered which channel the server accepts, so that a change of its rules is followed. */
const rememberMs = 60_000;
const sslRequest = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
const terminate = Buffer.from([0x58, 0, 0, 0, 4]);

export class PostgresConnector {
  readonly #address: PostgresAddress;
  readonly #accepted = new Map<PostgresHost, { channel: Channel; untilMs: number }>();

  constructor(address: PostgresAddress) {
    this.#address = address;
  }

  /** A connected socket, encrypted as the mode asks and ready for the start-up message. Throws when it cannot be had. */
  async connect(host: PostgresHost): Promise<Socket> {
    const channel = await this.#channel(host);
    const raw = await this.#dial(host);
    return channel === "plain" ? raw : this.#negotiate(raw, host);
  }

  /** The channel to use; `allow` and `prefer` find out by starting a session that goes no further than the first answer. */
  async #channel(host: PostgresHost): Promise<Channel> {
    const [first, second] = isSocketFolder(host.host) ? channels.disable : channels[this.#address.sslmode];
    if (second === undefined) return first;
    const nowMs = performance.now();
    const accepted = this.#accepted.get(host);
    if (accepted !== undefined && nowMs < accepted.untilMs) return accepted.channel;
    for (const channel of [first, second]) {
      if (!(await this.#isAccepted(channel, host))) continue;
      this.#accepted.set(host, { channel, untilMs: nowMs + rememberMs });
      return channel;
    }
    // Neither: the real session gets the server's reason and reports it.
    return first;
  }

  async #isAccepted(channel: Channel, host: PostgresHost): Promise<boolean> {
    let socket = await this.#dial(host);
    try {
      if (channel === "tls") socket = await this.#negotiate(socket, host);
      const answer = firstAnswer(socket, this.#address.timeoutMs);
      socket.write(startupMessage(this.#address.user, this.#address.database));
      // "R" asks for authentication or grants access; "E" is a refusal, such as by pg_hba.conf.
      return (await answer)[0] === 0x52;
    } catch {
      return false;
    } finally {
      hangUp(socket);
    }
  }

  #dial({ host, port }: PostgresHost): Promise<Socket> {
    const { timeoutMs } = this.#address;
    const socket = isSocketFolder(host) ? netConnect(`${host}/.s.PGSQL.${port}`) : netConnect({ host, port });
    socket.setNoDelay(true);
    return settled(socket, "connect", timeoutMs);
  }

  /** Asks for TLS on a fresh connection and does the handshake and the checks of the mode. */
  async #negotiate(raw: Socket, host: PostgresHost): Promise<Socket> {
    try {
      return await this.#startTls(raw, host.host);
    } catch (error) {
      raw.on("error", () => undefined);
      raw.destroy();
      throw error;
    }
  }

  async #startTls(raw: Socket, host: string): Promise<Socket> {
    const { sslmode, timeoutMs } = this.#address;
    const reply = firstAnswer(raw, timeoutMs);
    raw.write(sslRequest);
    const bytes = await reply;
    // More than one byte could only have been put there by someone in between, to be read as if it had been encrypted.
    if (bytes.length !== 1) throw new Error("The server answered the request for TLS with more than one byte.");
    if (bytes[0] !== 0x53) {
      if (sslmode === "prefer") return raw;
      throw new Error(`The server does not support TLS, but sslmode is "${sslmode}".`);
    }
    const ca = this.#authorities();
    const socket = tls.connect({
      socket: raw,
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ...(ca === undefined ? {} : { ca }),
      // Checked below, where the six modes differ.
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
    });
    await settled(socket, "secureConnect", timeoutMs);
    if (ca !== undefined) this.#verify(socket, host);
    return socket;
  }

  /** The authorities that must have signed, undefined where the mode does not look. As in libpq, `require` with a file does. */
  #authorities(): string[] | undefined {
    const { sslmode, sslrootcert } = this.#address;
    const verifies = sslmode === "verify-ca" || sslmode === "verify-full";
    if (sslrootcert !== undefined && sslrootcert !== "system" && (verifies || sslmode === "require")) {
      try {
        return [readFileSync(sslrootcert, "utf8")];
      } catch (error) {
        throw new Error(`DB_CONNECTION_ARGS.sslrootcert "${sslrootcert}" cannot be read: ${String(error)}`, {
          cause: error,
        });
      }
    }
    return verifies ? [...tls.getCACertificates("default"), ...tls.getCACertificates("system")] : undefined;
  }

  #verify(socket: tls.TLSSocket, host: string): void {
    const { sslmode } = this.#address;
    if (!socket.authorized) {
      socket.destroy();
      throw new Error(
        `The server's certificate is not trusted (${String(socket.authorizationError)}), sslmode is "${sslmode}".`,
      );
    }
    if (sslmode !== "verify-full") return;
    const mismatch = tls.checkServerIdentity(host, socket.getPeerCertificate());
    if (mismatch === undefined) return;
    socket.destroy();
    throw new Error(`The server's certificate is not for "${host}", sslmode is "verify-full": ${mismatch.message}`);
  }
}

function isSocketFolder(host: string): boolean {
  return host.startsWith("/");
}

/** Protocol 3.0. Source: PostgreSQL manual, "Message Formats", StartupMessage. */
function startupMessage(user: string, database: string): Buffer {
  const body = Buffer.from(`user\0${user}\0database\0${database}\0\0`);
  const head = Buffer.alloc(8);
  head.writeInt32BE(body.length + 8, 0);
  head.writeInt32BE(196_608, 4);
  return Buffer.concat([head, body]);
}

/** Waits for one event of a socket; destroys the socket when it fails or takes longer than `timeoutMs`. */
function settled<T extends Socket>(socket: T, event: "connect" | "secureConnect", timeoutMs: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const finish = (error?: Error): void => {
      clearTimeout(timer);
      socket.off(event, onEvent).off("error", onError).off("close", onClose);
      if (error === undefined) {
        resolve(socket);
        return;
      }
      socket.on("error", () => undefined);
      socket.destroy();
      reject(error);
    };
    const onEvent = (): void => finish();
    const onError = (error: Error): void => finish(error);
    const onClose = (): void => finish(new Error("The server closed the connection."));
    const timer = setTimeout(() => finish(new Error(`No answer within ${timeoutMs} ms.`)), timeoutMs);
    socket.on(event, onEvent).on("error", onError).on("close", onClose);
  });
}

function firstAnswer(socket: Socket, timeoutMs: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const finish = (error: Error | undefined, bytes?: Buffer): void => {
      clearTimeout(timer);
      socket.off("data", onData).off("error", onError).off("close", onClose);
      if (bytes !== undefined) {
        resolve(bytes);
        return;
      }
      socket.on("error", () => undefined);
      reject(error);
    };
    const onData = (bytes: Buffer): void => finish(undefined, bytes);
    const onError = (error: Error): void => finish(error);
    const onClose = (): void => finish(new Error("The server closed the connection."));
    const timer = setTimeout(() => finish(new Error(`No answer within ${timeoutMs} ms.`)), timeoutMs);
    socket.on("data", onData).on("error", onError).on("close", onClose);
  });
}

/** Says goodbye and lets go, whether or not the server still listens. */
function hangUp(socket: Socket): void {
  socket.on("error", () => undefined);
  socket.end(terminate);
  setTimeout(() => socket.destroy(), 1_000).unref();
}
