/**
 * What must hold of the files and rows of a stopped load, whatever was killed when: bytes under a digest have that digest,
 * every row has its file, every unfinished file has its session, and SQLite finds its own file sound.
 */
import { Database as SqliteFile } from "bun:sqlite";
import { createReadStream, existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { openDatabase } from "../../src/db/open.ts";

export interface StorePlace {
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

/** The driver's own probe, see src/storage/NOTES.md. */
const PROBE_FILE = ".check";

/** Remembers which files it has hashed: an unchanged file (inode, size, times) is not read again. */
export class StoreCheck {
  readonly #place: StorePlace;
  readonly #hashed = new Map<string, string>();

  constructor(place: StorePlace) {
    this.#place = place;
  }

  /** Looks at everything while nobody writes. Gives each thing that is wrong as a sentence. */
  async run(options: { hashAll: boolean }): Promise<{ wrong: string[]; count: StoreCount }> {
    if (options.hashAll) this.#hashed.clear();
    const blobsPath = join(this.#place.dataDir, "blobs");
    const wrong = this.#checkSqlite();
    const files = listBlobFiles(blobsPath);
    for (const [digest, path] of files) {
      const problem = await this.#checkHash(digest, path);
      if (problem) wrong.push(problem);
    }
    const db = await openDatabase({ uri: this.#place.databaseUri });
    try {
      const blobs = await db.sql<{ digest: string; size_bytes: number }>`/* crash.blobs */
        select b.digest, b.size_bytes from blob b`;
      for (const { digest, size_bytes } of blobs) {
        const path = files.get(digest);
        const size = path === undefined ? undefined : statSync(path).size;
        if (size !== Number(size_bytes)) wrong.push(`blob row ${digest} of ${size_bytes} bytes has a file of ${size}`);
      }
      const rows = await db.sql<{ id: string }>`/* crash.uploads */ select id from upload_session`;
      const sessions = new Set(rows.map(({ id }) => id));
      const uploads = readdirSync(join(blobsPath, "uploads")).filter((name) => name !== PROBE_FILE);
      for (const name of uploads) if (!sessions.has(name)) wrong.push(`uploads/${name} belongs to no session`);
      const count = {
        blobFiles: files.size,
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

  async #checkHash(digest: string, path: string): Promise<string | undefined> {
    const { ino, size, mtimeMs, ctimeMs } = statSync(path);
    const identity = `${ino}:${size}:${mtimeMs}:${ctimeMs}`;
    if (this.#hashed.get(path) === identity) return undefined;
    const [algorithm = "", hex] = digest.split(":");
    const hasher = new Bun.CryptoHasher(algorithm as "sha256" | "sha512");
    for await (const chunk of createReadStream(path)) hasher.update(chunk);
    const actual = hasher.digest("hex");
    if (actual !== hex) return `the file of ${digest} has ${size} bytes with the digest ${actual}`;
    this.#hashed.set(path, identity);
    return undefined;
  }
}

/** Paths of all blob files by digest. */
function listBlobFiles(blobsPath: string): Map<string, string> {
  const files = new Map<string, string>();
  for (const algorithm of ["sha256", "sha512"]) {
    const root = join(blobsPath, algorithm);
    if (!existsSync(root)) continue;
    for (const directory of readdirSync(root)) {
      for (const hex of readdirSync(join(root, directory))) {
        files.set(`${algorithm}:${hex}`, join(root, directory, hex));
      }
    }
  }
  return files;
}
