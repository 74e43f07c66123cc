/**
 * `bun run build [--target bun-linux-arm64] [--outfile PATH]`: the single binary, with migrations, workers and everything
 * else inside. It is run once before it counts as built, in an empty directory and without an environment.
 */
import { mkdirSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { runProcess } from "../test/support/process.ts";
import { makeTempDir } from "../test/support/temp-dir.ts";
import { rootDir } from "./parts.ts";

const defaultOutfile = join(rootDir, "dist", "berth");
/** The machines Berth is released for; musl ones run in Alpine's images. */
const targets = ["bun-linux-x64", "bun-linux-arm64", "bun-linux-x64-musl", "bun-linux-arm64-musl"] as const;
export type Target = (typeof targets)[number];

/** Builds for this machine, or for `target`. Throws with the compiler's messages. Gives the binary's path. */
export async function buildBinary(outfile = defaultOutfile, target?: Target): Promise<string> {
  mkdirSync(dirname(outfile), { recursive: true });
  const result = await Bun.build({
    // Workers are found inside by the path that they have below src.
    entrypoints: [join(rootDir, "src", "main.ts"), join(rootDir, "src", "workers", "entry.ts")],
    root: join(rootDir, "src"),
    compile: {
      outfile,
      ...(target === undefined ? {} : { target }),
      // Files that happen to lie in the working directory are none of the registry's business.
      autoloadDotenv: false,
      autoloadBunfig: false,
    },
    format: "esm",
    // Byte code instead of text halves the time to the first answer, for 3 MB more.
    bytecode: true,
    minify: { whitespace: true, syntax: true, identifiers: false },
    sourcemap: "inline",
    throw: false,
  });
  if (!result.success) throw new Error(`the build failed:\n${result.logs.map(String).join("\n")}`);
  // The map is inside too, so that stack traces in the log name the sources; the copy beside it serves nobody.
  rmSync(`${outfile}.map`, { force: true });
  return outfile;
}

/** Proves that the file runs alone: its version, and a database made from the migrations inside. Gives the version line. */
export async function tryBinary(binary: string): Promise<string> {
  const dir = makeTempDir("build");
  try {
    const env = Object.fromEntries(Object.keys(process.env).map((name) => [name, undefined]));
    const run = (...args: string[]) => runProcess({ command: binary, args, cwd: dir.path, env });
    const { stdout } = await run("version");
    await run("migrate");
    return stdout.trim();
  } finally {
    dir.remove();
  }
}

function parseTarget(text: string | undefined): Target | undefined {
  const target = targets.find((known) => known === text);
  if (text !== undefined && target === undefined) {
    throw new Error(`there is no build target "${text}", use one of ${targets.join(", ")}`);
  }
  return target;
}

if (import.meta.main) {
  const options = { target: { type: "string" }, outfile: { type: "string" } } as const;
  const { values } = parseArgs({ args: process.argv.slice(2), options });
  const target = parseTarget(values.target);
  const outfile = await buildBinary(values.outfile === undefined ? undefined : resolve(values.outfile), target);
  const megabytes = (Bun.file(outfile).size / 1e6).toFixed(0);
  const tried = target === undefined ? await tryBinary(outfile) : `built for ${target}, not tried here`;
  console.log(`${outfile}: ${megabytes} MB, ${tried}`);
}
