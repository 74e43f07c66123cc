/**
 * The sockets of one postgres.js client: opened to the server that is used now, and cut all together when it is given up.
 * postgres.js itself would wait for a server that no longer says anything.
 */

import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import type { TargetSession } from "./postgres-address.ts";

/** The `code` of the error of a socket that could not be opened or did not satisfy the mode. */
export const connectFailed = "CONNECT_FAILED";

/** postgres.js writes the start-up message in the turn in which it gets the socket. */
const speaksWithinMs = 500;
/** No set-up of a session is longer; what follows is not ours to read. */
const startupBytesMax = 64 * 1024;

export class Lane {
  readonly #open: () => Promise<Socket>;
  readonly #target: TargetSession;
  readonly #sockets = new Set<Socket>();
  readonly #opening = new Set<(reason: Error) => void>();

  /** `open` gives a socket that is ready for the start-up message. */
  constructor(open: () => Promise<Socket>, target: TargetSession) {
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
      failTwice(socket);
      if (this.#target !== "any") refuseStandby(socket, this.#target);
      failWhenMute(socket);
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

/**
 * Ends the socket when nothing was ever written to it. A connection of postgres.js that closed while a write was pending never
 * writes again (3.4.9: the pending timer is cleared and not forgotten), and what was given to it would wait for the timeout.
 */
function failWhenMute(socket: Socket): void {
  const { bytesWritten } = socket;
  const look = (): void => {
    if (socket.destroyed || socket.bytesWritten !== bytesWritten) return;
    socket.destroy(Object.assign(new Error("The connection could not be used again."), { code: connectFailed }));
  };
  // After what was ready to be written when the time was up.
  setTimeout(() => setImmediate(look), speaksWithinMs).unref();
}

/**
 * What postgres.js is given between a socket's error and its end it neither sends nor rejects (3.4.9: an end that follows an
 * error rejects nothing), so the error is said again at the end.
 */
function failTwice(socket: Socket): void {
  let last: Error | undefined;
  socket.on("error", (error) => {
    last = error;
  });
  socket.on("close", (hadError) => {
    if (hadError && last !== undefined) socket.emit("error", last);
  });
}

function discard(socket: Socket): void {
  socket.on("error", () => undefined);
  socket.destroy();
}

/** Fails at the first write and not before: postgres.js must have finished setting the connection up. */
function failedSocket(error: Error): Duplex {
  const socket = new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done(error) });
  // Its client may be one that never writes, see above.
  setTimeout(() => setImmediate(() => socket.destroy(error)), speaksWithinMs).unref();
  return socket;
}

/**
 * Fails the socket when the server says while it sets the session up that it takes no writes. Servers before 14 do not say;
 * there the first write finds out. Source: PostgreSQL manual, "Asynchronous Operations", in_hot_standby.
 */
function refuseStandby(socket: Socket, target: TargetSession): void {
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
