/** A layer larger than the server's memory may become: half a GiB here, 12 GiB with `bun test/crash/large-layer.ts --gib 12`. */
import { expect, test } from "bun:test";
import { GROWTH_BYTES_MAX, growthBytes, pushAndPullLargeLayer } from "../crash/large-layer.ts";

test("a layer of half a GiB comes back as it went, and the server grows by less than 100 MB", async () => {
  const figures = await pushAndPullLargeLayer(0.5);
  expect(figures.sizeBytes).toBe(1024 ** 3 / 2);
  expect(growthBytes(figures)).toBeLessThan(GROWTH_BYTES_MAX);
}, 120_000);
