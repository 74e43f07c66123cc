/**
 * Installs what the tests need and this machine lacks, and prints what it does. `packages` or `go` as argument does only
 * that half: building the Go programs takes minutes and can run beside tests that do not need them.
 */
import { installAzurite } from "../test/support/azurite.ts";
import { installGoPrograms, installPackages, type Print } from "../test/support/setup.ts";

const print: Print = (line) => console.log(`set-up: ${line}`);
const installPrograms = async (to: Print) =>
  (await Promise.all([installPackages(to), installAzurite(to)])).every(Boolean);
const halves = { packages: installPrograms, go: installGoPrograms };

const [asked] = process.argv.slice(2);
if (asked !== undefined && !Object.hasOwn(halves, asked)) {
  console.error(`there is no half "${asked}" of the set-up, use "packages" or "go"`);
  process.exitCode = 64;
} else {
  const chosen = Object.entries(halves).filter(([name]) => asked === undefined || asked === name);
  // Side by side: one waits for the package mirror while the other compiles.
  const results = await Promise.all(chosen.map(([, install]) => install(print)));
  process.exitCode = results.every(Boolean) ? 0 : 1;
}
