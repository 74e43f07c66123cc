/**
 * The sockets of one postgres.js client: opened to the server that is used now, and cut all together when it is given up.
 * postgres.js itself would wait for a server that no longer says anything.
 */

import { Duplex } from "node:stream";
import type { TargetSession } from "./postgres-address.ts";

/** The `code` of the error of a socket that could not be opened or did not satisfy the mode. */
export const connectFailed = "CONNECT_FAILED";

/** No set-up of a session is longer; what follows is not ours to read. */
const startupBytesMax = 64 * 1024;

export class Lane {
  readonly #open: () => Promise<Duplex>;
  readonly #target: TargetSession;
  readonly #sockets = new Set<Duplex>();
  readonly #opening = new Set<(reason: Error) => void>();

  /** `open` gives a socket that is ready for the start-up message. */
  constructor(open: () => Promise<Duplex>, target: TargetSession) {
    this.#open = open;
    this.#target = target;
  }

  /**
   * A connected socket. Never rejects: postgres.js loses a pool slot for good when its socket factory throws, so a failure
   * becomes a socket that fails as soon as it is used.
   */
  async connect(): Promise<Duplex> {
    const cut = Promise.withResolvers<never>();
    this.#opening.add(cut.reject);
    const opening = Promise.resolve().then(this.#open);
    try {
      const socket = await Promise.race([opening, cut.promise]);
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      if (this.#target !== "any") refuseStandby(socket, this.#target);
      return socket;
    } catch (error) {
      opening.then(discard, () => undefined);
      const reason = error instanceof Error ? error.message : String(error);
      return failedSocket(Object.assign(new Error(reason, { cause: error }), { code: connectFailed }));
    } finally {
      this.#opening.delete(cut.reject);
    }
  }

  /** Ends every socket now; what waits on them fails with this reason. */
  cut(reason: Error): void {
    for (const reject of this.#opening) reject(reason);
    for (const socket of this.#sockets) {
      socket.destroy(Object.assign(new Error(reason.message, { cause: reason }), { code: "CONNECTION_DESTROYED" }));
    }
  }
}

function discard(socket: Duplex): void {
  socket.on("error", () => undefined);
  socket.destroy();
}

/** Fails at the first write and not before: postgres.js must have finished setting the connection up. */
function failedSocket(error: Error): Duplex {
  return new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done(error) });
}

/**
 * Fails the socket when the server says while it sets the session up that it takes no writes. Servers before 14 do not say;
 * there the first write finds out. Source: PostgreSQL manual, "Asynchronous Operations", in_hot_standby.
 */
function refuseStandby(socket: Duplex, target: TargetSession): void {
  let read: Buffer<ArrayBufferLike> = Buffer.alloc(0);
  const onData = (bytes: Buffer): void => {
    read = Buffer.concat([read, bytes]);
    while (read.length >= 5) {
      const end = 1 + read.readUInt32BE(1);
      if (read.length < end) break;
      const kind = read[0];
      // "S" tells a setting, "Z" ends the set-up.
      if (kind === 0x53) {
        const [name, value] = read.toString("utf8", 5, end).split("\0");
        const isStandby = name === "in_hot_standby" && value === "on";
        const isReadOnly = target === "read-write" && name === "default_transaction_read_only" && value === "on";
        if (isStandby || isReadOnly) {
          socket.off("data", onData);
          const problem = isStandby ? "is a standby" : "takes no writes";
          socket.destroy(Object.assign(new Error(`The server ${problem}.`), { code: connectFailed }));
          return;
        }
      }
      if (kind === 0x5a) socket.off("data", onData);
      if (kind === 0x5a) return;
      read = read.subarray(end);
    }
    if (read.length > startupBytesMax) socket.off("data", onData);
  };
  socket.on("data", onData);
}
