/**
 * The local blob store: the contract suite, then what only a disk can show. Needs Linux, strace, and the right to mount
 * a tmpfs; a missing one fails the case and says so.
 */

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import type { StorageDriver } from "../../src/storage/driver.ts";
import { openLocalStorage } from "../../src/storage/local.ts";
import { runTraced, type TracedCall } from "../support/strace.ts";
import { makeTempDir, type TempDir } from "../support/temp-dir.ts";
import {
  appendTo,
  blobOf,
  expectAbsent,
  expectRefused,
  expectStored,
  fillUpload,
  storageContract,
  storeBlob,
} from "./contract.ts";
import { committedBytes } from "./local-child.ts";
import { makeRandom } from "./random.ts";

const childPath = join(import.meta.dir, "local-child.ts");
const uploadId = "01234567-89ab-4cde-8f01-23456789abcd";

storageContract("local", async () => {
  const dir = makeTempDir("local-storage");
  return {
    driver: await openLocalStorage({ rootPath: dir.path }),
    reopen: () => openLocalStorage({ rootPath: dir.path }),
    cleanup: async () => dir.remove(),
  };
});

describe("local storage", () => {
  let dir: TempDir;
  let rootPath: string;
  let driver: StorageDriver;
  let nowMs = 0;
  const random = makeRandom("local storage");

  beforeAll(async () => {
    dir = makeTempDir("local-storage");
    rootPath = join(dir.path, "data", "registry");
    driver = await openLocalStorage({ rootPath, clock: { nowMs: () => nowMs } });
  });
  afterAll(() => dir.remove());

  test("nobody else can read the store", async () => {
    const blob = blobOf(random.bytes(1000));
    await storeBlob(driver, blob);
    const { id } = await fillUpload(driver, random.bytes(10));
    for (const path of ["", "uploads", "sha256", blob.key.slice(0, 9)])
      expect(modeOf(join(rootPath, path))).toBe(0o700);
    for (const path of [blob.key, `uploads/${id}`]) expect(modeOf(join(rootPath, path))).toBe(0o600);
  });

  test("a committed blob lies where Quay would look for it, and leaves no upload", async () => {
    const blob = blobOf(random.bytes(1000));
    const { id, state } = await fillUpload(driver, blob.bytes);
    expect(existsSync(join(rootPath, "uploads", id))).toBe(true);
    await driver.commitUpload(id, state, blob.key, 1000);
    expect(existsSync(join(rootPath, "uploads", id))).toBe(false);
    expect(await driver.source(blob.key)).toEqual({ kind: "file", path: join(rootPath, blob.key), sizeBytes: 1000 });
  });

  test("a blob's directory that somebody removed is made again", async () => {
    const blob = blobOf(random.bytes(1000));
    await storeBlob(driver, blob);
    rmSync(join(rootPath, "sha256"), { recursive: true });
    await storeBlob(driver, blob);
    await expectStored(driver, blob);
  });

  test("abort gives the disk space back at once", async () => {
    const { id, state } = await fillUpload(driver, random.bytes(1000));
    const writer = await driver.openUpload(id, state, 1000);
    await writer.write(random.bytes(3_000_000));
    await writer.abort();
    expect(statSync(join(rootPath, "uploads", id)).size).toBe(1000);
  });

  test("a writer whose request hangs cannot touch what a later request stored", async () => {
    const blob = blobOf(random.bytes(500_000));
    const id = crypto.randomUUID();
    const created = await driver.createUpload(id);
    const hanging = await driver.openUpload(id, created, 0);
    hanging.write(random.bytes(200_000));
    const state = await appendTo(driver, id, created, 0, blob.bytes);
    expect(() => hanging.write(random.bytes(10))).toThrow("another request has taken over");
    await driver.commitUpload(id, state, blob.key, 500_000);
    await expectRefused(hanging.flush(), "blob_upload_invalid");
    await hanging.abort();
    await expectStored(driver, blob);
  });

  test("a commit ends the writer that still hangs on the upload", async () => {
    const blob = blobOf(random.bytes(500_000));
    const { id, state } = await fillUpload(driver, blob.bytes);
    const hanging = await driver.openUpload(id, state, 500_000);
    const written = hanging.write(random.bytes(2_000_000));
    // Handled before the commit, so that a rejection in between counts as seen.
    const outcome = Promise.resolve(written).catch((error: unknown) => error);
    await driver.commitUpload(id, state, blob.key, 500_000);
    await hanging.abort();
    await outcome;
    await expectStored(driver, blob);
  });

  test("bytes past the offset are cut off as soon as the upload is opened", async () => {
    const { id, state } = await fillUpload(driver, random.bytes(1000));
    await appendTo(driver, id, state, 1000, random.bytes(5000));
    const writer = await driver.openUpload(id, state, 1000);
    expect(statSync(join(rootPath, "uploads", id)).size).toBe(1000);
    await writer.abort();
  });

  test("an upload cut short by power loss has to be started again", async () => {
    const { id, state } = await fillUpload(driver, random.bytes(1000));
    await Bun.write(join(rootPath, "uploads", id), new Uint8Array(400));
    await expectRefused(driver.openUpload(id, state, 1000), "blob_upload_unknown");
    await expectRefused(driver.readUpload(id, state, 1000), "blob_upload_unknown");
    await expectRefused(driver.commitUpload(id, state, blobOf(random.bytes(1000)).key, 1000), "blob_upload_unknown");
  });

  test("check notices a root that vanished, within a second, and that it came back", async () => {
    await driver.check();
    renameSync(rootPath, `${rootPath}-gone`);
    nowMs += 999;
    await driver.check();
    nowMs += 1;
    await expectRefused(driver.check(), "unavailable");
    await expectRefused(driver.createUpload(crypto.randomUUID()), "unavailable");
    // What lies below a mount that vanished is an empty directory.
    mkdirSync(rootPath);
    nowMs += 1000;
    await expectRefused(driver.check(), "unavailable");
    await expectRefused(driver.createUpload(crypto.randomUUID()), "unavailable");
    rmSync(rootPath, { recursive: true });
    renameSync(`${rootPath}-gone`, rootPath);
    await expectRefused(driver.check(), "unavailable");
    nowMs += 1000;
    await driver.check();
  });

  test("check writes once in ten seconds, not at every poll", async () => {
    const probePath = join(rootPath, "uploads", ".check");
    nowMs += 10_000;
    await driver.check();
    rmSync(probePath);
    for (let poll = 0; poll < 9; poll++) {
      nowMs += 1000;
      await driver.check();
    }
    expect(existsSync(probePath)).toBe(false);
    nowMs += 1000;
    await driver.check();
    expect(existsSync(probePath)).toBe(true);
  });

  test("a root that is a file is refused with its name", async () => {
    const path = join(dir.path, "file");
    await Bun.write(path, "");
    const opening = openLocalStorage({ rootPath: path });
    await expectRefused(opening, "unavailable");
    await expect(opening).rejects.toThrow(`"${path}"`);
  });
});

describe("local storage on a file system of 1 MiB", () => {
  let dir: TempDir;
  let driver: StorageDriver;
  let nowMs = 0;
  const random = makeRandom("full disk");

  beforeAll(async () => {
    dir = makeTempDir("local-tmpfs");
    mount(dir.path, "size=1m,mode=0700");
    driver = await openLocalStorage({ rootPath: dir.path, clock: { nowMs: () => nowMs } });
  });
  afterAll(() => {
    Bun.spawnSync(["umount", dir.path]);
    dir.remove();
  });

  test("a full disk refuses the push, keeps the upload, and goes on when there is room", async () => {
    const blob = blobOf(random.bytes(500_000));
    const first = await fillUpload(driver, blob.bytes.subarray(0, 300_000));
    await expectRefused(appendTo(driver, first.id, first.state, 300_000, random.bytes(2_000_000)), "storage_full");
    const state = await appendTo(driver, first.id, first.state, 300_000, blob.bytes.subarray(300_000));
    await driver.commitUpload(first.id, state, blob.key, 500_000);
    await expectStored(driver, blob);
  });

  test("a full disk is no reason to stop serving pulls, and shows in the free space", async () => {
    const { id } = await fillUpload(driver, random.bytes(100_000));
    const full = join(dir.path, "ballast");
    Bun.spawnSync(["dd", "if=/dev/zero", `of=${full}`, "bs=4096"], { stderr: "ignore" });
    nowMs += 60_000;
    await driver.check();
    expect(await driver.space()).toEqual({ freeBytes: 0, totalBytes: 1024 * 1024 });
    await expectRefused(storeBlob(driver, blobOf(random.bytes(200_000))), "storage_full");
    rmSync(full);
    await driver.deleteUpload(id, "100000");
  });

  test("check notices a file system that became read-only", async () => {
    nowMs += 1000;
    await driver.check();
    // The kernel refuses this while any file is open for writing: no case above may have left a writer behind.
    runMount(["mount", "-o", "remount,ro", dir.path]);
    nowMs += 1000;
    await expectRefused(driver.check(), "unavailable");
    runMount(["mount", "-o", "remount,rw", dir.path]);
    // A machine whose clock ran ahead is set right: what was found "later" is not believed until then.
    nowMs -= 3_600_000;
    await driver.check();
  });
});

const scratchDirs: TempDir[] = [];
afterEach(() => {
  for (const dir of scratchDirs.splice(0)) dir.remove();
});

function scratchDir(purpose: string): TempDir {
  const dir = makeTempDir(purpose);
  scratchDirs.push(dir);
  return dir;
}

describe("local storage under strace", () => {
  const blob = blobOf(committedBytes);

  test("bytes are fsynced before the rename, and each new name before the commit resolves", async () => {
    const dir = scratchDir("local-strace");
    const rootPath = join(dir.path, "root");
    const trace = await runTraced(
      dir.path,
      ["-e", "trace=mkdir,fsync,rename,write"],
      [childPath, "commit", rootPath, uploadId],
    );
    expect(trace.output).toBe("stored\n");
    const find = (name: string, text: string) => findCall(trace.calls, name, text);
    const fileSync = find("fsync", `/uploads/${uploadId}>`);
    const rename = find("rename", `/uploads/${uploadId}"`);
    const directorySync = find("fsync", `${rootPath}/sha256/${blob.key.slice(7, 9)}>`);
    const answer = find("write", '"stored');
    expectOrder([fileSync, rename, directorySync, answer]);
    // The way from the root down to the blob must be durable as well.
    const made = [`${rootPath}"`, `${rootPath}/sha256"`, `${rootPath}/sha256/${blob.key.slice(7, 9)}"`];
    const above = [`${dir.path}>`, `${rootPath}>`, `${rootPath}/sha256>`];
    made.forEach((path, index) => {
      const mkdir = find("mkdir", path);
      const later = trace.calls.filter((call) => call.startLine > mkdir.endLine);
      expectOrder([mkdir, findCall(later, "fsync", above[index] ?? ""), answer]);
    });
  });

  const failures: [string, string, string][] = [
    ["write", "pwrite64:error=EIO", "unavailable"],
    ["write for lack of quota", "pwrite64:error=EDQUOT", "storage_full"],
    ["fsync", "fsync:error=EIO", "unavailable"],
    ["fsync on a full disk", "fsync:error=ENOSPC", "storage_full"],
    ["rename", "rename:error=EIO", "unavailable"],
  ];
  test.each(failures)("a %s that fails is no commit", async (_name, injection, code) => {
    const dir = scratchDir("local-strace");
    const uploadPath = join(dir.path, "uploads", uploadId);
    const options = ["-P", uploadPath, "-e", "trace=pwrite64,fsync,rename", "-e", `inject=${injection}`];
    const trace = await runTraced(dir.path, options, [childPath, "commit", dir.path, uploadId]);
    expect(trace.output).toBe(`${code}\n`);
    const driver = await openLocalStorage({ rootPath: dir.path });
    await expectAbsent(driver, blob.key);
    // Nothing is lost either: the upload is where it was, and can be continued.
    await appendTo(driver, uploadId, "0", 0, blob.bytes);
    await driver.commitUpload(uploadId, String(blob.bytes.byteLength), blob.key, blob.bytes.byteLength);
    await expectStored(driver, blob);
  });

  test("a write that a signal interrupts is continued", async () => {
    const dir = scratchDir("local-strace");
    const uploadPath = join(dir.path, "uploads", uploadId);
    const options = ["-P", uploadPath, "-e", "trace=pwrite64", "-e", "inject=pwrite64:error=EINTR:when=1"];
    const trace = await runTraced(dir.path, options, [childPath, "commit", dir.path, uploadId]);
    expect(trace.output).toBe("stored\n");
    await expectStored(await openLocalStorage({ rootPath: dir.path }), blob);
  });
});

test("after SIGKILL every key that was acknowledged is whole, and no name holds other bytes", async () => {
  const dir = scratchDir("local-crash");
  const random = makeRandom("crash of the local store");
  const acknowledged: string[] = [];
  for (let round = 0; round < 6; round++) {
    const seed = String(random.integer(1, 2 ** 31));
    const child = Bun.spawn([process.execPath, childPath, "loop", dir.path, seed], {
      stdout: "pipe",
      stderr: "inherit",
    });
    const lines = new Response(child.stdout).text();
    await Bun.sleep(random.integer(250, 600));
    child.kill("SIGKILL");
    await child.exited;
    // The last line may be cut off by the kill: a key whose newline is missing was not acknowledged.
    acknowledged.push(
      ...(await lines)
        .split("\n")
        .slice(0, -1)
        .filter((line) => line.startsWith("sha256/")),
    );
  }
  expect(acknowledged.length).toBeGreaterThan(0);
  const driver = await openLocalStorage({ rootPath: dir.path });
  const stored = readdirSync(join(dir.path, "sha256"), { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  for (const key of acknowledged) expect(await driver.find(key)).toBeDefined();
  for (const entry of stored) {
    const bytes = await Bun.file(join(entry.parentPath, entry.name)).bytes();
    expect(blobOf(bytes).key.endsWith(`/${entry.name}`)).toBe(true);
  }
  expect(stored.length).toBeGreaterThanOrEqual(new Set(acknowledged).size);
});

function modeOf(path: string): number {
  return statSync(path).mode & 0o777;
}

function mount(path: string, options: string): void {
  runMount(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path]);
}

function runMount(command: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(command, { stderr: "pipe" });
  if (exitCode === 0) return;
  throw new Error(`"${command.join(" ")}" failed; run this test as root: ${stderr.toString().trim()}`);
}

function findCall(calls: readonly TracedCall[], name: string, text: string): TracedCall {
  const found = calls.find((call) => call.name === name && call.text.includes(text));
  if (!found) throw new Error(`no ${name} of ${text} in the trace`);
  return found;
}

/** Each call must have returned before the next one was made. */
function expectOrder(calls: readonly TracedCall[]): void {
  const isOrdered = calls.every(
    (call, index) => call.endLine < (calls[index + 1]?.startLine ?? Number.POSITIVE_INFINITY),
  );
  if (!isOrdered) throw new Error(`calls overlap or stand in the wrong order:\n${JSON.stringify(calls, undefined, 1)}`);
}
