import { expect, test } from "bun:test";
import { PartPool, slabBytes } from "./part-pool.ts";

const mebibyte = 1024 * 1024;

function pattern(sizeBytes: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: sizeBytes }, (_, index) => (index * 31 + (index >> 8)) & 0xff);
}

function joined(pieces: Iterable<Uint8Array>): Buffer {
  return Buffer.concat([...pieces]);
}

test("a part gives back what was put in, in chunks of any size, as often as it is read", () => {
  const pool = new PartPool();
  const bytes = pattern(slabBytes * 2 + 77);
  for (const chunkBytes of [1000, slabBytes, slabBytes + 1, bytes.length]) {
    const part = pool.open({ sizeBytesMax: mebibyte, hashed: true });
    for (let at = 0; at < bytes.length; at += chunkBytes) {
      const chunk = bytes.subarray(at, at + chunkBytes);
      expect(part.append(chunk)).toBe(chunk.length);
    }
    expect(part.sizeBytes).toBe(bytes.length);
    for (let round = 0; round < 2; round++) expect(joined(part.pieces()).equals(bytes)).toBe(true);
    expect(Buffer.from(part.bytes()).equals(bytes)).toBe(true);
    expect(part.sha256()).toBe(new Bun.CryptoHasher("sha256").update(bytes).digest("hex"));
    part.release();
  }
});

test("a part takes no more than its size, and the rest of the chunk goes into the next one", () => {
  const pool = new PartPool();
  const bytes = pattern(1500);
  const first = pool.open({ sizeBytesMax: 1000 });
  expect(first.append(bytes)).toBe(1000);
  expect(first.isFull).toBe(true);
  expect(first.append(bytes, 1000)).toBe(0);
  const second = pool.open({ sizeBytesMax: 1000, hashed: true });
  expect(second.append(bytes, 1000)).toBe(500);
  expect(joined([...first.pieces(), ...second.pieces()]).equals(bytes)).toBe(true);
  expect(second.sha256()).toBe(new Bun.CryptoHasher("sha256").update(bytes.subarray(1000)).digest("hex"));
});

test("every upload is sure of a part, and has another only while the budget lasts", () => {
  const pool = new PartPool(3 * mebibyte);
  const options = { sizeBytesMax: mebibyte };
  const parts = [pool.open(options), pool.open(options)];
  const extra = pool.tryOpen(options);
  expect(extra).toBeDefined();
  expect(pool.tryOpen(options)).toBeUndefined();
  parts.push(pool.open(options), pool.open(options));
  expect(pool.promisedBytes).toBe(5 * mebibyte);
  for (const part of parts) part.release();
  extra?.release();
  extra?.release();
  expect(pool.promisedBytes).toBe(0);
  expect(pool.tryOpen(options)).toBeDefined();
});

test("memory is used again, and only by one part at a time", () => {
  const pool = new PartPool();
  const first = pool.open({ sizeBytesMax: mebibyte });
  first.append(pattern(100));
  const [slab] = first.pieces();
  first.release();
  expect(() => first.append(pattern(1))).toThrow();
  const second = pool.open({ sizeBytesMax: mebibyte });
  second.append(new Uint8Array(10));
  const [again] = second.pieces();
  expect(again?.buffer).toBe(slab?.buffer as ArrayBuffer);
  const third = pool.open({ sizeBytesMax: mebibyte });
  third.append(new Uint8Array(10));
  const [other] = third.pieces();
  expect(other?.buffer).not.toBe(again?.buffer as ArrayBuffer);
});

const never = new AbortController().signal;
const gradual = { sizeBytesMax: 4 * mebibyte, isGradual: true };

/** A gradual part that has taken what it takes without asking. */
function begun(pool: PartPool) {
  const part = pool.open(gradual);
  expect(part.append(pattern(2 * mebibyte))).toBe(mebibyte);
  expect([part.roomBytes, part.isFull]).toEqual([0, false]);
  return part;
}

test("a gradual part takes little at once, and the rest while all parts together have room", async () => {
  const pool = new PartPool(0, { crowdBytes: 9 * mebibyte, nowMs: () => 0, admitAfterMs: 3_600_000 });
  const [first, second, third] = [begun(pool), begun(pool), begun(pool)];
  await pool.admit(first, never);
  expect(first.append(pattern(8 * mebibyte))).toBe(3 * mebibyte);
  expect(first.isFull).toBe(true);
  const admitted: string[] = [];
  const waiting = [
    pool.admit(second, never).then(() => admitted.push("second")),
    pool.admit(third, never).then(() => admitted.push("third")),
  ];
  await waiting[0];
  expect(admitted).toEqual(["second"]);
  expect([second.roomBytes, third.roomBytes]).toEqual([3 * mebibyte, 0]);
  first.release();
  await waiting[1];
  expect(third.roomBytes).toBe(3 * mebibyte);
});

test("a part whose client has stalled counts for what it has", async () => {
  let nowMs = 0;
  const pool = new PartPool(0, { crowdBytes: 6 * mebibyte, nowMs: () => nowMs, admitAfterMs: 3_600_000 });
  const [stalled, next] = [begun(pool), begun(pool)];
  await pool.admit(stalled, never);
  nowMs = 60_000;
  await pool.admit(next, never);
  expect(next.roomBytes).toBe(3 * mebibyte);
});

test("one that waits gives up with its upload, and one whose time is over goes on", async () => {
  const pool = new PartPool(0, { crowdBytes: 4 * mebibyte, nowMs: () => 0, admitAfterMs: 50 });
  const parts = [begun(pool), begun(pool), begun(pool)] as const;
  const stop = new AbortController();
  const givenUp = pool.admit(parts[0], stop.signal);
  const late = pool.admit(parts[1], never);
  stop.abort(new Error("the client is gone"));
  await expect(givenUp).rejects.toThrow("the client is gone");
  expect(parts[0].roomBytes).toBe(0);
  await late;
  expect(parts[1].roomBytes).toBe(3 * mebibyte);
});
