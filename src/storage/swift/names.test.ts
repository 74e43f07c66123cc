/** Names in the container, states in the row, and signatures in URLs. */

import { describe, expect, test } from "bun:test";
import { SwiftNames } from "./names.ts";
import {
  continueAt,
  decodeState,
  encodeState,
  type Piece,
  piecesOf,
  type Run,
  sizeOf,
  type UploadState,
} from "./state.ts";
import { signTempUrl } from "./temp-url.ts";

const id = "01234567-89ab-4cde-8f01-23456789abcd";
const key = "sha256/ab/abcdef";

test.each([
  ["/datastorage/registry", false, `datastorage/registry/${key}`],
  ["datastorage/registry/", false, `datastorage/registry/${key}`],
  ["/", false, key],
  ["", false, key],
  ["/registry-", true, `registry-${key}`],
  ["/registry/", true, `registry/${key}`],
  ["", true, key],
])("storage_path %p with simple_path_concat %p gives %s", (storagePath, simple, name) => {
  expect(new SwiftNames(storagePath, simple).object(key)).toBe(name);
});

test("the upload of a name is found below uploads/ and segments/, and nowhere else", () => {
  const names = new SwiftNames("/root", false);
  for (const name of [names.upload(id), names.commitFlag(id), names.segment(id, "0", 3), `root/segments/${id}`]) {
    expect(names.uploadIdOf(name)).toBe(id);
  }
  for (const name of [names.probe, `root/${key}`, `other/uploads/${id}`, `root/uploads/${id}x`, "root/uploads"]) {
    expect(names.uploadIdOf(name)).toBeUndefined();
  }
});

describe("a state", () => {
  const names = new SwiftNames("", false);
  const run = (name: string, sizeBytes: number, isLoose = false): Run => ({
    run: name.repeat(12),
    sizeBytes,
    segmentBytes: 100,
    isLoose,
  });
  const state = (...runs: Run[]): UploadState => ({ runs, dropped: [] });
  const a = `segments/${id}/aaaaaaaaaaaa`;
  const b = `segments/${id}/bbbbbbbbbbbb`;

  test("is read back as it was written, by its own upload alone", () => {
    const whole = { runs: [run("a", 250), run("b", 90)], dropped: ["x"] };
    expect(decodeState(id, encodeState(id, whole))).toEqual(whole);
    expect(decodeState(id, encodeState(id, { ...state(), heldBytes: 7 }))).toEqual({ ...state(), heldBytes: 7 });
    expect(decodeState(crypto.randomUUID(), encodeState(id, whole))).toBeUndefined();
    for (const text of ["", "{}", "[]", "12", '{"id":1}']) expect(decodeState(id, text)).toBeUndefined();
    expect(sizeOf(whole)).toBe(340);
  });

  test("names the objects that hold its first bytes", () => {
    const pieces = (limit: number) => [...piecesOf(names, id, [run("a", 250), run("b", 90)], limit)];
    const all = [
      { name: `${a}/000000000`, sizeBytes: 100 },
      { name: `${a}/000000001`, sizeBytes: 100 },
      { name: `${a}/000000002`, sizeBytes: 50 },
      { name: `${b}/000000000`, sizeBytes: 90 },
    ];
    expect(pieces(340)).toEqual(all);
    expect(pieces(1000)).toEqual(all);
    expect(pieces(200)).toEqual(all.slice(0, 2));
    expect(pieces(201)).toEqual([...all.slice(0, 2), { name: `${a}/000000002`, sizeBytes: 1 }]);
    expect(pieces(0)).toEqual([]);
  });

  const kept = (sizeBytes: number) => [run("a", sizeBytes)];
  const cases: [string, UploadState, number, Run[], Piece | undefined][] = [
    ["nothing", state(), 0, [], undefined],
    ["from the beginning again", state(run("a", 250)), 0, [], undefined],
    ["after whole segments", state(run("a", 200)), 200, kept(200), undefined],
    ["after a last segment that is long enough", state(run("a", 250)), 250, kept(250), undefined],
    ["after a short one", state(run("a", 249)), 249, kept(200), { name: `${a}/000000002`, sizeBytes: 49 }],
    ["in the middle of a segment", state(run("a", 250)), 190, kept(100), { name: `${a}/000000001`, sizeBytes: 90 }],
    ["where an earlier run ended", state(run("a", 250), run("b", 90)), 250, kept(250), undefined],
    [
      "after a loose one, whatever its length",
      state(run("a", 80, true)),
      80,
      [],
      { name: `uploads/${id}/aaaaaaaaaaaa`, sizeBytes: 80 },
    ],
  ];
  test.each(cases)("goes on %s", (_name, from, offsetBytes, runs, head) => {
    expect(continueAt(names, id, from, offsetBytes, 50)).toEqual({ kept: runs, head });
  });
});

test("a TempURL is signed over its method, its end and its decoded path", () => {
  const url = new URL("https://swift.example.com/v1/AUTH_a/a%20container/o");
  const signed = new URL(signTempUrl(url, { method: "GET", key: "k", digest: "sha1", nowMs: 1_000_000_000 }));
  const expires = signed.searchParams.get("temp_url_expires");
  expect(expires).toBe("1000120");
  const text = `GET\n${expires}\n/v1/AUTH_a/a container/o`;
  expect(signed.searchParams.get("temp_url_sig")).toBe(new Bun.CryptoHasher("sha1", "k").update(text).digest("hex"));
  expect(signed.pathname).toBe("/v1/AUTH_a/a%20container/o");
});
