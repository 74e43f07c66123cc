import { describe, expect, test } from "bun:test";
import { continueAt, decodeState, EMPTY_STATE, encodeState, segmentName, sizeOf } from "./state.ts";

const id = "01234567-89ab-4cde-8f01-23456789abcd";
const one = { name: "1-0123456789ab", sizeBytes: 10 };
const two = { name: "2-0123456789ab", sizeBytes: 20 };
const three = { name: "3-0123456789ab", sizeBytes: 30 };

test("a state is read back as it was written", () => {
  const states = [
    EMPTY_STATE,
    { segments: [one], dropped: [] },
    { segments: [one, two], dropped: [three.name] },
    { segments: [], dropped: [], heldBytes: 7 },
    { segments: [], dropped: [], heldBytes: 0 },
  ];
  for (const state of states) expect(decodeState(id, encodeState(id, state))).toEqual(state);
  expect(sizeOf({ segments: [one, two], dropped: [], heldBytes: 5 })).toBe(35);
});

describe("is no state", () => {
  const good = { id, segments: [["1-0123456789ab", 10]] };
  const hostile: [string, string][] = [
    ["nothing", ""],
    ["no JSON", "{"],
    ["null", "null"],
    ["a list", "[]"],
    ["another upload's", JSON.stringify({ ...good, id: crypto.randomUUID() })],
    ["without segments", JSON.stringify({ id })],
    ["a name that leaves the upload", JSON.stringify({ ...good, segments: [["../../sha256/ab/x", 1]] })],
    ["a name with a line's end", JSON.stringify({ ...good, segments: [["1-0123456789ab\n", 1]] })],
    ["a name with a slash", JSON.stringify({ ...good, segments: [["1-0123456789ab/x", 1]] })],
    ["an empty segment", JSON.stringify({ ...good, segments: [["1-0123456789ab", 0]] })],
    ["a negative size", JSON.stringify({ ...good, segments: [["1-0123456789ab", -1]] })],
    ["half a byte", JSON.stringify({ ...good, segments: [["1-0123456789ab", 1.5]] })],
    ["a size beyond all numbers", `{"id":"${id}","segments":[["1-0123456789ab",1e999]]}`],
    ["a size in words", JSON.stringify({ ...good, segments: [["1-0123456789ab", "10"]] })],
    ["a dropped name that leaves the upload", JSON.stringify({ ...good, dropped: ["../x"] })],
    ["less than nothing held", JSON.stringify({ ...good, held: -1 })],
    ["a prototype", `{"__proto__":{"id":"${id}","segments":[]}}`],
  ];
  test.each(hostile)("%s", (_name, text) => {
    expect(decodeState(id, text)).toBeUndefined();
  });
});

test("names of segments tell their order, are new each time and fit a state", () => {
  const names = Array.from({ length: 100 }, (_, index) => segmentName(index));
  expect(new Set(names).size).toBe(100);
  const segments = names.map((name) => ({ name, sizeBytes: 1 }));
  expect(decodeState(id, encodeState(id, { segments, dropped: [] }))?.segments).toEqual(segments);
  expect(segmentName(9999)).toStartWith("10000-");
});

describe("an upload goes on", () => {
  const state = { segments: [one, two, three], dropped: [] };
  const cases: [string, number, number, unknown][] = [
    ["behind long segments", 60, 1, { kept: [one, two, three], head: undefined, dropped: [] }],
    ["with a short last one in its head", 60, 31, { kept: [one, two], head: three, dropped: [three.name] }],
    [
      "from a cut in the last one",
      45,
      1,
      { kept: [one, two], head: { ...three, sizeBytes: 15 }, dropped: [three.name] },
    ],
    [
      "from a cut in the middle",
      15,
      1,
      { kept: [one], head: { ...two, sizeBytes: 5 }, dropped: [two.name, three.name] },
    ],
    ["between two", 30, 1, { kept: [one, two], head: undefined, dropped: [three.name] }],
    ["from the beginning", 0, 100, { kept: [], head: undefined, dropped: [one.name, two.name, three.name] }],
  ];
  test.each(cases)("%s", (_name, offsetBytes, headBelowBytes, wanted) => {
    expect(continueAt(state, offsetBytes, headBelowBytes)).toEqual(wanted as ReturnType<typeof continueAt>);
  });

  test("with nothing before it", () => {
    expect(continueAt(EMPTY_STATE, 0, 5)).toEqual({ kept: [], head: undefined, dropped: [] });
  });
});
