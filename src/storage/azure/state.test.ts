/** The text that an upload's row keeps, and what follows from it. */

import { expect, test } from "bun:test";
import { cutSegments, decodeState, encodeState, piecesOf, sizeOf, uploadIdOf } from "./state.ts";
import { blockListXml, errorCode, parseBlobPage } from "./xml.ts";

const id = "01234567-89ab-4cde-8f01-23456789abcd";
const segments = [
  { nonce: "0123456789ab", sizeBytes: 5 },
  { nonce: "ba9876543210", sizeBytes: 8_000_000_000 },
];

test("a state is read back as it was, and its size is that of its bytes", () => {
  for (const state of [{ segments: [] }, { segments }, { segments: [], heldBytes: 12 }]) {
    expect(decodeState(id, encodeState(id, state))).toEqual(state);
  }
  expect(sizeOf({ segments })).toBe(8_000_000_005);
});

test.each([
  "",
  id,
  `${id} - - -`,
  `${id} x:1 -`,
  `${id} 0123456789ab:-1 -`,
  `${id} 0123456789ab:1,, -`,
  `${id} - 1e3`,
  `${id} ../../sha256:1 -`,
  encodeState("11234567-89ab-4cde-8f01-23456789abcd", { segments }),
])("%j is no state of this upload", (text) => {
  expect(decodeState(id, text)).toBeUndefined();
});

test("a cut keeps what lies before it, and names follow from the places", () => {
  expect(cutSegments(segments, 0)).toEqual([]);
  expect(cutSegments(segments, 5)).toEqual(segments.slice(0, 1));
  expect(piecesOf(id, cutSegments(segments, 7))).toEqual([
    { key: `uploads/${id}/00000-0123456789ab`, sizeBytes: 5 },
    { key: `uploads/${id}/00001-ba9876543210`, sizeBytes: 2 },
  ]);
  expect(uploadIdOf(`uploads/${id}/00000-0123456789ab`)).toBe(id);
  expect(uploadIdOf("uploads/.check")).toBeUndefined();
});

test("a list of blobs is read whole or not at all", () => {
  const blob =
    "<Blob><Name>a&amp;b</Name><Properties><Last-Modified>Mon, 23 Nov 2026 12:00:00 GMT</Last-Modified></Properties></Blob>";
  const whole = `<?xml version="1.0"?><EnumerationResults><Blobs>${blob}</Blobs><NextMarker>x</NextMarker></EnumerationResults>`;
  expect(parseBlobPage(whole)).toEqual({
    blobs: [{ name: "a&b", modifiedMs: Date.UTC(2026, 10, 23, 12) }],
    marker: "x",
  });
  expect(parseBlobPage(whole.slice(0, -5))).toBeUndefined();
  expect(parseBlobPage("<EnumerationResults><Blobs/><NextMarker /></EnumerationResults>")).toEqual({
    blobs: [],
    marker: "",
  });
  expect(errorCode("<Error><Code>ServerBusy</Code></Error>")).toBe("ServerBusy");
  expect(blockListXml(["QQ=="])).toContain("<BlockList><Latest>QQ==</Latest></BlockList>");
});
