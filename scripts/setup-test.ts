/**
 * Installs what the tests need and this machine lacks, and prints what it does. `packages`, `s3` or `go` as argument does
 * only that share: building the S3 server or the other Go programs takes minutes and can run beside tests that need neither.
 */
import { installAzurite } from "../test/support/azurite.ts";
import { installGoPrograms, installPackages, installS3Server, type Print } from "../test/support/setup.ts";

const print: Print = (line) => console.log(`set-up: ${line}`);
const installPrograms = async (to: Print) =>
  (await Promise.all([installPackages(to), installAzurite(to)])).every(Boolean);
const shares = { packages: installPrograms, s3: installS3Server, go: installGoPrograms };

const [asked] = process.argv.slice(2);
if (asked !== undefined && !Object.hasOwn(shares, asked)) {
  console.error(`there is no share "${asked}" of the set-up, use "packages", "s3" or "go"`);
  process.exitCode = 64;
} else {
  const chosen = Object.entries(shares).filter(([name]) => asked === undefined || asked === name);
  // Side by side: one waits for the package mirror while the other compiles.
  const results = await Promise.all(chosen.map(([, install]) => install(print)));
  process.exitCode = results.every(Boolean) ? 0 : 1;
}
