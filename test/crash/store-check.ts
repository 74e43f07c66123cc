/**
 * What must hold of the objects and rows of a stopped load, whatever was killed when: bytes under a digest have that digest,
 * every row has its object, every unfinished file has its session, and SQLite finds its own file sound.
 */
import { Database as SqliteFile } from "bun:sqlite";
import { join } from "node:path";
import { openDatabase } from "../../src/db/open.ts";
import type { StoredObject, TestStore } from "../support/store.ts";

export interface StorePlace {
  readonly store: TestStore;
  /** The data directory of the server. */
  readonly dataDir: string;
  /** DB_URI. */
  readonly databaseUri: string;
}

export interface StoreCount {
  readonly blobFiles: number;
  readonly blobRows: number;
  readonly uploadFiles: number;
  readonly uploadRows: number;
}

/** Remembers what it has hashed: an object that was not written anew is not read again. */
export class StoreCheck {
  readonly #place: StorePlace;
  readonly #hashed = new Map<string, string>();

  constructor(place: StorePlace) {
    this.#place = place;
  }

  /** Looks at everything while nobody writes. Gives each thing that is wrong as a sentence. */
  async run(options: { hashAll: boolean }): Promise<{ wrong: string[]; count: StoreCount }> {
    if (options.hashAll) this.#hashed.clear();
    const { store } = this.#place;
    const wrong = this.#checkSqlite();
    const objects = await blobObjects(store);
    for (const [digest, object] of objects) {
      const problem = await this.#checkHash(digest, object);
      if (problem) wrong.push(problem);
    }
    const db = await openDatabase({ uri: this.#place.databaseUri });
    try {
      const blobs = await db.sql<{ digest: string; size_bytes: number }>`/* crash.blobs */
        select b.digest, b.size_bytes from blob b`;
      for (const { digest, size_bytes } of blobs) {
        const size = objects.get(digest)?.sizeBytes;
        if (size !== Number(size_bytes)) wrong.push(`blob row ${digest} of ${size_bytes} bytes has a file of ${size}`);
      }
      const rows = await db.sql<{ id: string }>`/* crash.uploads */ select id from upload_session`;
      const sessions = new Set(rows.map(({ id }) => id));
      const uploads = await store.uploads();
      // In a bucket a request that was cut may leave a part of no session, which the sweep finds by its age.
      const strays = store.isLocal ? uploads.filter((name) => !sessions.has(name)) : [];
      for (const name of strays) wrong.push(`uploads/${name} belongs to no session`);
      const count = {
        blobFiles: objects.size,
        blobRows: blobs.length,
        uploadFiles: uploads.length,
        uploadRows: sessions.size,
      };
      return { wrong, count };
    } finally {
      await db.close();
    }
  }

  #checkSqlite(): string[] {
    if (!this.#place.databaseUri.startsWith("sqlite:")) return [];
    const file = new SqliteFile(join(this.#place.dataDir, "berth.db"), { readonly: true });
    try {
      const rows = file.query<{ integrity_check: string }, []>("pragma integrity_check").all();
      const orphans = file.query<Record<string, unknown>, []>("pragma foreign_key_check").all();
      return [
        ...rows.map((row) => row.integrity_check).filter((text) => text !== "ok"),
        ...orphans.map((orphan) => `a foreign key points nowhere: ${JSON.stringify(orphan)}`),
      ];
    } finally {
      file.close();
    }
  }

  async #checkHash(digest: string, object: StoredObject): Promise<string | undefined> {
    const { key, mark, sizeBytes } = object;
    if (this.#hashed.get(key) === mark) return undefined;
    const [algorithm = "", hex] = digest.split(":");
    const hasher = new Bun.CryptoHasher(algorithm as "sha256" | "sha512");
    for await (const chunk of await this.#place.store.read(key)) hasher.update(chunk);
    const actual = hasher.digest("hex");
    if (actual !== hex) return `the object of ${digest} has ${sizeBytes} bytes with the digest ${actual}`;
    this.#hashed.set(key, mark);
    return undefined;
  }
}

/** All blobs in the store by digest. */
async function blobObjects(store: TestStore): Promise<Map<string, StoredObject>> {
  const objects = await store.list("sha");
  return new Map(
    objects.map((object) => {
      const [algorithm = "", , hex = ""] = object.key.split("/");
      return [`${algorithm}:${hex}`, object];
    }),
  );
}
