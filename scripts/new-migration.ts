/**
 * `bun scripts/new-migration.ts NAME [--per-engine]`: the next numbered file in sql/ and its line in src/db/migrations.ts,
 * which puts it into the program. With `--per-engine` a pair, for what SQLite and PostgreSQL cannot share.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { rootDir } from "./parts.ts";

const namePattern = /^[a-z][a-z0-9]*(?:_[a-z0-9]+)*$/;
const listPattern = /^(export const migrations\b.*= \[)([\s\S]*?),?\s*\];$/m;

/** Adds one after the last. Throws, having changed nothing, on a bad name or a list it does not understand. */
export function addMigration(root: string, name: string, perEngine: boolean): string[] {
  if (!namePattern.test(name)) throw new Error(`"${name}" is no name for a migration, write it as add_quota_limits`);
  const listFile = join(root, "src", "db", "migrations.ts");
  const source = readFileSync(listFile, "utf8");
  const list = listPattern.exec(source);
  if (!list) throw new Error(`${listFile} has no list of migrations that could be added to`);
  const id = [...source.matchAll(/\bid: ([0-9]+)/g)].length + 1;
  const stem = `${String(id).padStart(4, "0")}_${name}`;
  const variable = name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
  const engines = perEngine ? ["sqlite", "postgres"] : [""];
  const files = engines.map((engine) => join(root, "sql", `${stem}${engine && `.${engine}`}.sql`));
  for (const file of files) if (existsSync(file)) throw new Error(`${file} is there already`);

  const variables = engines.map((engine) => variable + engine.slice(0, 1).toUpperCase() + engine.slice(1));
  const imports = variables.map((each, index) => {
    const file = files[index]?.slice(join(root, "sql").length + 1);
    return `import ${each} from "../../sql/${file}" with { type: "text" };\n`;
  });
  const text = perEngine
    ? `{ ${engines.map((engine, index) => `${engine}: ${variables[index]}`).join(", ")} }`
    : variable;
  const entries = `${list[2]?.trim()},\n  { id: ${id}, name: "${name}", text: ${text} },\n`;
  const typeImport = 'import type { Migration } from "./migrate.ts";';
  const next = source
    .replace(listPattern, (_, start: string) => `${start}\n  ${entries}];`)
    .replace(typeImport, () => imports.join("") + typeImport);
  for (const file of files) writeFileSync(file, `-- ${name.replaceAll("_", " ")}\n`, { flag: "wx" });
  writeFileSync(listFile, next);
  return [...files, listFile];
}

if (import.meta.main) {
  const options = { "per-engine": { type: "boolean" } } as const;
  const { values, positionals } = parseArgs({ args: process.argv.slice(2), options, allowPositionals: true });
  for (const file of addMigration(rootDir, positionals[0] ?? "", values["per-engine"] === true)) console.log(file);
  console.log('then: write it, run "bun scripts/dump-schema.ts" and "bun run ok"');
}
