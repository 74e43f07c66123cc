/** A layer larger than the server's memory may become: 1 GiB here, 12 GiB with `bun test/crash/large-layer.ts --gib 12`. */
import { expect, test } from "bun:test";
import { GROWTH_BYTES_MAX, growthBytes, pushAndPullLargeLayer } from "../crash/large-layer.ts";

test("a layer of 1 GiB comes back as it went, and the server grows by less than 100 MB", async () => {
  const figures = await pushAndPullLargeLayer(1);
  expect(figures.sizeBytes).toBe(1024 ** 3);
  expect(growthBytes(figures)).toBeLessThan(GROWTH_BYTES_MAX);
}, 120_000);
