import { expect, test } from "bun:test";
import { atLeast, below, type Cell, formatRows, median } from "./report.ts";

const cell = (figure: number): Cell => ({ median: figure, rounds: [figure] });

test("the median ignores order and one outlier", () => {
  expect(median([900, 10, 11])).toBe(11);
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(() => median([])).toThrow("no figure");
});

test("a ratio target is decided only when both servers were measured", () => {
  expect(atLeast({ berth: cell(30), zot: cell(10) }, 3, "zot").met).toBe(true);
  expect(atLeast({ berth: cell(29), zot: cell(10) }, 3, "zot").met).toBe(false);
  expect(atLeast({ berth: cell(30) }, 3, "zot").met).toBeUndefined();
  expect(below("p99", 5, 5, "ms").met).toBe(false);
  expect(below("p99", undefined, 5, "ms").met).toBeUndefined();
});

test("the table shows every server and says what is not met", () => {
  const cells = { berth: { ...cell(1234), p50Ms: 1, p99Ms: 2.345, peakRssBytes: 80e6 }, zot: cell(1000) };
  const table = formatRows([
    { work: "GET", unit: "req/s", cells, targets: [atLeast(cells, 3, "zot")], notes: ["by wrk"] },
  ]);
  expect(table).toContain("| GET | berth | 1,234 req/s | 1,234 | 1.00 | 2.35 | 80 |");
  expect(table).toContain("| GET | ≥ 3 × zot (is 1.23) | NOT MET |");
  expect(table).toContain("- GET: by wrk");
});
