/**
 * Brings what the tests need onto this machine: Debian packages in one call of apt-get where that is possible, and the
 * programs that only Go brings. What cannot be installed is printed here and named again by the test that needs it.
 */
import { findGoTool, type GoTool, hasGoTool } from "./go-tools.ts";
import { runProcess } from "./process.ts";
import { debianPackageOf, findTool } from "./tools.ts";

/** Programs of Debian that the suites call; benchmarks alone need more and say so themselves. */
const programs = [
  ...["buildah", "docker-compose", "docker-registry", "nginx", "podman", "skopeo"],
  ...["swift-account-server", "swift-container-server", "swift-object-server", "swift-proxy-server"],
  ...["ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin"],
  ...["keystone-manage", "memcached", "swift-ring-builder"],
  ...["curl", "faketime", "ip", "ldd", "mount", "nft", "openssl", "postgres", "setpriv", "strace", "unshare"],
];
/** The S3 server, which most parts of the full run need; it is built beside the others, which few need. */
const s3Server: GoTool = "versitygw";
/** Quick to build first, so that their tests need not wait for the large ones. */
const goPrograms: readonly GoTool[] = ["conformance", "crane", "regctl", "oras", "helm", "cosign"];
const aptTimeoutMs = 10 * 60_000;

export type Print = (line: string) => void;

/** Packages of programs that are missing here, sorted. */
export function missingPackages(wanted: readonly string[] = programs): string[] {
  const missing = wanted.filter((name) => findTool(name) === undefined);
  return [...new Set(missing.map(debianPackageOf))].sort();
}

/** Installs missing Debian packages as root; elsewhere prints the command. False when something is missing still. */
export async function installPackages(print: Print): Promise<boolean> {
  const packages = missingPackages();
  if (packages.length === 0) return true;
  const apt = Bun.which("apt-get");
  const command = `apt-get install --no-install-recommends ${packages.join(" ")}`;
  if (apt === null || process.getuid?.() !== 0) {
    print(`missing: ${packages.join(" ")}. On Debian, as root: ${command}`);
    return false;
  }
  print(command);
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  const run = (...args: string[]) => runProcess({ command: apt, args, env, timeoutMs: aptTimeoutMs });
  try {
    await run("update", "-qq");
    await run("install", "-y", "-qq", "--no-install-recommends", ...packages);
  } catch (error) {
    print(error instanceof Error ? error.message : String(error));
  }
  const left = missingPackages();
  if (left.length > 0) print(`still missing: ${left.join(" ")}`);
  return left.length === 0;
}

/** There is one, or Go to build it with. */
export function canInstallS3Server(): boolean {
  return process.env.TEST_S3_URI !== undefined || hasGoTool(s3Server) || findTool("go") !== undefined;
}

/** Builds the S3 server, where Go is at hand. False when Go is and the server is not. */
export function installS3Server(print: Print): Promise<boolean> {
  return build([s3Server], print);
}

/** Builds the other programs that only Go brings, in the same way. */
export function installGoPrograms(print: Print): Promise<boolean> {
  return build(goPrograms, print);
}

/** One after the other: the compiler uses all cores by itself. */
async function build(programs: readonly GoTool[], print: Print): Promise<boolean> {
  let complete = true;
  for (const name of programs) {
    const startedMs = performance.now();
    const result = await findGoTool(name, print);
    if (result.kind === "missing") {
      complete = false;
      print(`${name}: ${result.reason}`);
    } else if (performance.now() - startedMs > 1000) {
      print(`${name} is there after ${Math.round((performance.now() - startedMs) / 1000)} s`);
    }
  }
  return complete || findTool("go") === undefined;
}
