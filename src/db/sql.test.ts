/** Rendering of templates, without a database. */

import { expect, test } from "bun:test";
import { postgresDialect } from "./dialect.ts";
import { fragment, makeRenderer, makeSql, mayWrite } from "./sql.ts";

const sql = makeSql(async () => []);
const render = makeRenderer((position) => `$${position}`);

test("parameters are numbered through fragments in the order of the text", () => {
  const inner = sql`b = ${"two"} and c = ${3}`;
  const query = sql`/* item.find */ select ${1} where a = ${null} and ${inner} and d = ${true}`;
  expect(render(query)).toEqual({
    name: "item.find",
    text: "/* item.find */ select $1 where a = $2 and b = $3 and c = $4 and d = $5",
    params: [1, null, "two", 3, true],
    writes: false,
  });
});

test("one template gives the right text with and without a fragment in the same place", () => {
  const find = (part: string | ReturnType<typeof sql>) => render(sql`select ${part} as x, ${2} as y`).text;
  const fragmented = "select now as x, $1 as y";
  const bound = "select $1 as x, $2 as y";
  expect([find("a"), find(sql`now`), find("b"), find(sql`now`)]).toEqual([bound, fragmented, bound, fragmented]);
});

test("lists are filled up so that few texts are prepared", () => {
  const texts = [1, 2, 3, 4, 5].map((length) => {
    const values = Array.from({ length }, (_, index) => index);
    return render(sql`select ${postgresDialect.inList("id", values)}`).params;
  });
  expect(texts).toEqual([[0], [0, 1], [0, 1, 2, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4, 4, 4, 4]]);
  expect(() => postgresDialect.inList("id", Array(10_001).fill(0))).toThrow("at most 10000");
});

test("a fragment cannot run, and one that holds itself ends", async () => {
  await expect((async () => fragment(["select 1"]))()).rejects.toThrow("fragment of SQL");
  const values: unknown[] = [];
  const endless = { strings: ["a", "b"], values };
  values.push(Object.setPrototypeOf(endless, Object.getPrototypeOf(sql``)));
  expect(() => render(endless as never)).toThrow("nests fragments deeper than 32");
});

test("statements that may write are told by their words", () => {
  const reads = [
    "select 1",
    "  -- update\nselect 'insert'",
    "/* a.delete */ with x as (select 1) select * from x",
    "values (1)",
  ];
  const writes = [
    "insert into t values (1)",
    "with x as (select 1) delete from t",
    "/* select */ update t set a = 1",
    "create table t (a)",
    "pragma user_version = 1",
    "vacuum",
  ];
  expect(reads.map(mayWrite)).toEqual(reads.map(() => false));
  expect(writes.map(mayWrite)).toEqual(writes.map(() => true));
});
