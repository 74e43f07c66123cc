/**
 * Makes commits durable off the thread and many at a time: SQLite writes them to its log without waiting (`synchronous =
 * normal`), and this fsyncs the log before anybody is told. One fsync serves every commit that came before it began.
 */

import { type FileHandle, open } from "node:fs/promises";
import { RegistryError } from "../errors.ts";

export class WalSync {
  readonly #path: string;
  #file: FileHandle | undefined;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #failure: RegistryError | undefined;

  /** `databasePath` is the main file; the log lies beside it. */
  constructor(databasePath: string) {
    this.#path = `${databasePath}-wal`;
  }

  /**
   * Resolves when everything that was committed before the call is on disk. Throws `unavailable` when the disk refused: the
   * kernel forgets what it could not write, so from then on nothing is acknowledged until a restart reads what is there.
   */
  sync(): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    if (!this.#running) return this.#start();
    // The running one may have begun before our commit was written; the one after it serves all who wait now.
    this.#next ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        return this.sync();
      });
    return this.#next;
  }

  /** Throws when acknowledging has stopped. */
  requireSound(): void {
    if (this.#failure) throw this.#failure;
  }

  /** Waits for what runs and closes the log's descriptor. */
  async close(): Promise<void> {
    await (this.#next ?? this.#running)?.catch(() => undefined);
    await this.#file?.close();
    this.#file = undefined;
  }

  #start(): Promise<void> {
    const running = this.#sync().finally(() => {
      if (this.#running === running) this.#running = undefined;
    });
    this.#running = running;
    return running;
  }

  async #sync(): Promise<void> {
    try {
      // SQLite takes its locks on other files, so a descriptor of our own on the log does no harm.
      this.#file ??= await open(this.#path, "r+");
      await this.#file.datasync();
    } catch (error) {
      this.#failure = new RegistryError("unavailable", {
        message: `The database log "${this.#path}" could not be made durable; nothing is written until a restart.`,
        cause: error,
      });
      throw this.#failure;
    }
  }
}
