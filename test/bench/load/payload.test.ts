import { expect, test } from "bun:test";
import { makePayload } from "./payload.ts";

test("a payload's slices add up to its size and its digest, and no two digests are equal", () => {
  for (const sizeBytes of [33, 1_000_000, 8 * 1024 * 1024, 20_000_001]) {
    const payload = makePayload(sizeBytes);
    const hasher = new Bun.CryptoHasher("sha256");
    let offset = 0;
    for (;;) {
      const slice = payload.slice(offset, 300_000);
      if (slice.length === 0) break;
      hasher.update(slice);
      offset += slice.length;
    }
    expect(offset).toBe(sizeBytes);
    expect(`sha256:${hasher.digest("hex")}`).toBe(payload.digest);
    expect(makePayload(sizeBytes).digest).not.toBe(payload.digest);
  }
});
