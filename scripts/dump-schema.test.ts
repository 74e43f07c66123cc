/** sql/schema.sql is what the migrations make. */
import { expect, test } from "bun:test";
import { dumpSchema, schemaFile } from "./dump-schema.ts";

test('sql/schema.sql is up to date; if not, run "bun scripts/dump-schema.ts"', async () => {
  expect(await Bun.file(schemaFile).text()).toBe(await dumpSchema());
});
