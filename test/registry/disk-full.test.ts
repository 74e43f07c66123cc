/**
 * A full disk: pushes are told so with 507, nothing half-written is seen, pulls go on, and all of it works again when there
 * is room. The store, and then the SQLite database, lie on a small tmpfs in a mount namespace of the server's own, which is
 * gone with the server however it ends.
 */
import { afterEach, expect, test } from "bun:test";
import { chmodSync, mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type BerthServer, startBerth } from "../support/berth.ts";
import { fixedBytes, image, publish } from "../support/content.ts";
import { chosenEngines } from "../support/database.ts";
import { digestOf, type PushShape, RegistryClient, uploadLocation } from "../support/registry-client.ts";
import { makeTempDir, type TempDir } from "../support/temp-dir.ts";
import { requireTool } from "../support/tools.ts";
import { errorOf, readEnvelope } from "./harness.ts";
import { UploadSteps } from "./upload-steps.ts";

const MiB = 1024 * 1024;
const repository = "admin/disk";
const cleanUps: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

interface SmallDisk {
  readonly berth: BerthServer;
  readonly admin: RegistryClient;
  /** Runs a statement on the disk's berth.db, where the server sees it: SQLite goes by the file's name for its log. */
  sql(statement: string): void;
  /** Files below the disk, as the server sees them. */
  list(path: string): string[];
  freeBytes(): number;
  /** Takes all the room that is left. */
  fill(): void;
  free(): void;
}

/** Starts a server whose `disk` directory is a tmpfs of this size; `config` is told where that is. */
async function startOnSmallDisk(
  sizeBytes: number,
  config: (disk: string) => Record<string, unknown>,
  database?: "sqlite",
): Promise<SmallDisk> {
  const dir: TempDir = makeTempDir("disk-full");
  cleanUps.push(() => dir.remove());
  const disk = join(dir.path, "disk");
  mkdirSync(disk);
  const berth = await startBerth({
    alone: "each server would mount a disk of its own",
    binary: writeLauncher(dir.path, disk, sizeBytes),
    config: { SUPER_USERS: ["admin"], FEATURE_USER_INITIALIZE: true, ...config(disk) },
    ...(database === undefined ? {} : { database }),
  });
  cleanUps.push(() => berth.stop());
  const made = await fetch(`${berth.url}/api/v1/user/initialize`, {
    method: "POST",
    body: JSON.stringify({ username: "admin", password: berth.adminPassword }),
  });
  expect(made.status).toBe(200);
  // Its mount is seen through the process alone.
  const inside = (path: string) => `/proc/${berth.pid}/root${path}`;
  const filler = inside(join(disk, "filler"));
  return {
    berth,
    admin: new RegistryClient({ url: berth.url, username: "admin", password: berth.adminPassword }),
    sql(statement) {
      const program = `const db = new (require("bun:sqlite").Database)(process.argv[1]);
        db.run("pragma busy_timeout = 10000"); db.run(process.argv[2]);`;
      const command = [process.execPath, "-e", program, join(disk, "berth.db"), statement];
      const into = ["--target", String(berth.pid), "--user", "--mount", "--preserve-credentials"];
      const ran = Bun.spawnSync([requireTool("nsenter"), ...into, ...command]);
      if (!ran.success) throw new Error(ran.stderr.toString());
    },
    list: (path) => readdirSync(inside(join(disk, path))).filter((name) => name !== ".check"),
    freeBytes() {
      const { bavail, bsize } = statfsSync(inside(disk));
      return bavail * bsize;
    },
    fill() {
      for (const piece of [MiB, 64 * 1024, 4096]) {
        try {
          for (let count = 0; count < 10_000; count++) writeFileSync(filler, new Uint8Array(piece), { flag: "a" });
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
        }
      }
    },
    free: () => rmSync(filler, { force: true }),
  };
}

/** A program that mounts the tmpfs and becomes the server. */
function writeLauncher(dir: string, disk: string, sizeBytes: number): string {
  const built = process.env.TEST_BERTH_BINARY;
  const server = built ? [resolve(built)] : [process.execPath, resolve(import.meta.dir, "../../src/main.ts")];
  const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
  const inner = `${requireTool("mount")} -t tmpfs -o size=${sizeBytes} tmpfs ${quote(disk)} && exec ${server.map(quote).join(" ")} "$@"`;
  const path = join(dir, "launch");
  writeFileSync(
    path,
    `#!/bin/sh\nexec ${requireTool("unshare")} --map-root-user --mount sh -c ${quote(inner)} launch "$@"\n`,
  );
  chmodSync(path, 0o700);
  return path;
}

const storeOn = (disk: string) => ({
  DISTRIBUTED_STORAGE_CONFIG: { default: ["LocalStorage", { storage_path: join(disk, "blobs") }] },
  DISTRIBUTED_STORAGE_PREFERENCE: ["default"],
});

async function expectFull(response: Response): Promise<void> {
  expect(response.status).toBe(507);
  const { code, message } = await errorOf(response);
  expect(code).toBe("UNAVAILABLE");
  expect(message).toContain("full");
  expect(message).not.toContain("/");
}

for (const shape of ["post-put", "patch", "chunked", "single-post"] satisfies PushShape[]) {
  test(`a blob larger than the disk, by ${shape}: 507, nothing of it is left or seen, others go on`, async () => {
    const { admin, list } = await startOnSmallDisk(4 * MiB, storeOn);
    const small = image("small");
    await publish(admin, repository, small, "v1");
    const large = fixedBytes(8 * MiB, 9);
    await expectFull(await admin.pushBlob(repository, large, { shape, chunkBytes: MiB }));
    expect((await admin.pullBlob(repository, digestOf(large))).status).toBe(404);
    expect((await admin.pullManifest(repository, "v1")).status).toBe(200);
    const fits = fixedBytes(MiB, 10);
    if (shape === "single-post") expect(list("blobs/uploads")).toEqual([]);
    if (shape !== "chunked") expect((await admin.pushBlob(repository, fits)).status).toBe(201);
  }, 30_000);
}

test("a session that met the full disk stays at what was stored, can be cancelled, or finished when there is room", async () => {
  const { admin, list, fill, free, berth } = await startOnSmallDisk(8 * MiB, storeOn);
  const steps = new UploadSteps(admin, repository);
  const bytes = fixedBytes(2 * MiB, 11);
  const [first, second] = [await steps.start(), await steps.start()];
  for (const location of [first, second]) expect((await steps.patch(location, bytes.slice(0, MiB))).status).toBe(202);
  fill();
  for (const location of [first, second]) {
    await expectFull(await steps.patch(location, bytes.slice(MiB)));
    const status = await steps.status(location);
    expect(status.status).toBe(204);
    expect(status.headers.get("range")).toBe(`0-${MiB - 1}`);
  }
  // Health says so, and pulls and cancels need no room.
  const health = await fetch(`${berth.url}/health/instance`);
  expect(((await health.json()) as { data: { services: object } }).data.services).toMatchObject({ disk_space: false });
  expect((await steps.cancel(second)).status).toBe(204);
  expect(list("blobs/uploads")).toEqual([
    uploadLocation(await steps.status(first))
      .split("/")
      .at(-1) ?? "",
  ]);
  free();
  expect((await steps.patch(first, bytes.slice(MiB))).status).toBe(202);
  expect((await steps.put(first, digestOf(bytes))).status).toBe(201);
  expect(digestOf(await (await admin.pullBlob(repository, digestOf(bytes))).bytes())).toBe(digestOf(bytes));
  expect(list("blobs/uploads")).toEqual([]);
}, 30_000);

test("a blob of which the last byte fits and its directory does not is refused whole, and taken later", async () => {
  const { admin, fill, free, list } = await startOnSmallDisk(4 * MiB, storeOn);
  await publish(admin, repository, image("first"), "v1");
  fill();
  const bytes = fixedBytes(100, 12);
  const response = await admin.pushBlob(repository, bytes);
  expect([201, 507]).toContain(response.status);
  free();
  expect((await admin.pushBlob(repository, bytes)).status).toBe(201);
  expect(await (await admin.pullBlob(repository, digestOf(bytes))).bytes()).toEqual(bytes);
  expect(list("blobs/uploads").length).toBeLessThanOrEqual(1);
}, 30_000);

// Only SQLite's file is ours to fill.
if (chosenEngines().includes("sqlite")) {
  test("a full disk under the SQLite database: writes are told so, reads go on, and nothing acknowledged is lost", async () => {
    const { admin, berth, fill, free } = await startOnSmallDisk(
      4 * MiB,
      (disk) => ({ DB_URI: `sqlite:///${join(disk, "berth.db")}` }),
      "sqlite",
    );
    const acknowledged: string[] = [];
    const content = image("tagged");
    await publish(admin, repository, content, "v0");
    fill();
    let refused: Response | undefined;
    for (let position = 1; position < 2000 && refused === undefined; position++) {
      const response = await admin.pushManifest(repository, `v${position}`, content.manifest);
      if (response.status === 201) acknowledged.push(`v${position}`);
      else refused = response;
    }
    expect(refused?.status).toBe(507);
    readEnvelope((await refused?.text()) ?? "");
    expect((await admin.pullManifest(repository, "v0")).status).toBe(200);
    for (const blob of content.blobs) expect((await admin.pullBlob(repository, digestOf(blob))).status).toBe(200);
    expect([201, 507]).toContain((await admin.pushBlob(repository, fixedBytes(10, 1))).status);
    free();
    expect((await admin.pushManifest(repository, "after", content.manifest)).status).toBe(201);
    expect((await admin.pushBlob(repository, fixedBytes(10, 2))).status).toBe(201);
    const listed = ((await (await admin.listTags(repository)).json()) as { tags: string[] }).tags;
    expect(listed.sort()).toEqual(["v0", "after", ...acknowledged].sort());
    expect(berth.logs()).not.toContain(berth.adminPassword);
  }, 60_000);

  test("a disk that pushes filled, database and blobs, can be emptied: tags go, their space comes back, pushes go on", async () => {
    const { admin, list, sql, freeBytes } = await startOnSmallDisk(
      48 * MiB,
      (disk) => ({
        ...storeOn(disk),
        DB_URI: `sqlite:///${join(disk, "berth.db")}`,
        DEFAULT_TAG_EXPIRATION: "0s",
        TAG_EXPIRATION_OPTIONS: ["0s", "2w"],
        GARBAGE_COLLECTION_FREQUENCY: 1,
        PUSH_TEMP_TAG_EXPIRATION_SEC: 1,
      }),
      "sqlite",
    );
    const tags: string[] = [];
    // Layers of 4 MiB, and then ever smaller ones, until not one of a KiB fits.
    for (let layerBytes = 4 * MiB; layerBytes >= 1024; ) {
      const pushed = await admin
        .pushImage(repository, `v${tags.length}`, { layerBytes })
        .catch((error: Error) => error);
      if (!(pushed instanceof Error) && pushed.response.status === 201) tags.push(`v${tags.length}`);
      else layerBytes /= 4;
    }
    expect((await admin.pushBlob(repository, fixedBytes(4096, 1))).status).toBe(507);
    // What is kept is what deleting needs, and not a part of the disk that nobody may use.
    expect(freeBytes()).toBeWithin(1, 13 * MiB);
    const scope = `repository:${repository}:delete`;
    for (const tag of tags) {
      const deleted = await admin.request(`/v2/${repository}/manifests/${tag}`, { method: "DELETE", scope });
      expect([tag, deleted.status]).toEqual([tag, 202]);
    }
    const stored = () => list("blobs/sha256").flatMap((name) => list(`blobs/sha256/${name}`)).length;
    const deadline = performance.now() + 60_000;
    while (stored() > 0 && performance.now() < deadline) {
      // A blob is left alone for its first minute.
      sql("update blob set lease_until_ms = 1 where state = 'live' and lease_until_ms > 0");
      await Bun.sleep(500);
    }
    expect(stored()).toBe(0);
    expect((await admin.pushBlob(repository, fixedBytes(20 * MiB, 2))).status).toBe(201);
  }, 150_000);
}
