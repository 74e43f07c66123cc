/**
 * Programs that only Go brings: clients, the conformance suite and a peer. Each is pinned, looked for in the environment,
 * on PATH and in `.cache/go-bin`, and installed there when Go is at hand. Without Go the answer says so, for the report.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runProcess } from "./process.ts";
import { findTool } from "./tools.ts";

/** What is installed, and at which version. One place: a new version is a change here and nowhere else. */
const goTools = {
  conformance: "github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111",
  cosign: "github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3",
  crane: "github.com/google/go-containerregistry/cmd/crane@v0.22.1",
  helm: "helm.sh/helm/v3/cmd/helm@v3.21.4",
  oras: "oras.land/oras/cmd/oras@v1.3.6",
  regctl: "github.com/regclient/regclient/cmd/regctl@v0.11.5",
  versitygw: "github.com/versity/versitygw/cmd/versitygw@v1.7.0",
  zb: "zotregistry.dev/zot/v2/cmd/zb@v2.1.20",
  zot: "zotregistry.dev/zot/v2/cmd/zot@v2.1.20",
} as const;

export type GoTool = keyof typeof goTools;

/** Servers, whose speed counts in tests and benchmarks. Clients do little, so for them it is the build that should be fast. */
const optimized: ReadonlySet<GoTool> = new Set(["versitygw", "zb", "zot"]);
/** Without optimization and debugging information a build takes two thirds of the time. */
const quickBuild = ["-gcflags=all=-N -l -dwarf=false", "-ldflags=-s -w"];
export type GoToolResult = { kind: "found"; path: string } | { kind: "missing"; reason: string };

const binDir = join(import.meta.dir, "..", "..", ".cache", "go-bin");
/** A first build of the largest (cosign) takes some minutes on two cores. */
const installTimeoutMs = 20 * 60_000;
const searches = new Map<GoTool, Promise<GoToolResult>>();

/**
 * Finds or installs a Go program; `print` is told before an installation, which takes minutes. Never throws for a missing
 * one: `reason` is what the test report shows.
 */
export function findGoTool(name: GoTool, print?: (line: string) => void): Promise<GoToolResult> {
  let search = searches.get(name);
  if (search === undefined) {
    search = findOrInstall(name, print);
    searches.set(name, search);
  }
  return search;
}

/** True when nothing has to be built for it. */
export function hasGoTool(name: GoTool): boolean {
  return locate(name) !== undefined;
}

function locate(name: GoTool): string | undefined {
  // "conformance" is too common a word to trust whatever PATH has under it
  const installed = name === "conformance" && !process.env.TEST_CONFORMANCE ? undefined : findTool(name);
  const cached = join(binDir, name);
  return installed ?? (existsSync(cached) ? cached : undefined);
}

async function findOrInstall(name: GoTool, print?: (line: string) => void): Promise<GoToolResult> {
  const cached = join(binDir, name);
  const path = locate(name);
  if (path !== undefined) return { kind: "found", path };
  const go = findTool("go");
  if (go === undefined) return { kind: "missing", reason: `not run: needs Go (to install ${goTools[name]})` };
  mkdirSync(binDir, { recursive: true });
  const lock = join(binDir, `.${name}.lock`);
  try {
    await takeLock(lock);
    try {
      if (!(await Bun.file(cached).exists())) {
        print?.(`go install ${goTools[name]}`);
        await install(go, name);
      }
    } finally {
      rmSync(lock, { force: true });
    }
  } catch (error) {
    const cause = error instanceof Error ? error.message : String(error);
    return { kind: "missing", reason: `not run: go install ${goTools[name]} failed: ${cause}` };
  }
  return { kind: "found", path: cached };
}

/** Several test runs look for one program at once: only one builds it. A lock whose holder is gone is nobody's. */
async function takeLock(path: string): Promise<void> {
  const deadline = performance.now() + installTimeoutMs;
  for (;;) {
    try {
      writeFileSync(path, String(process.pid), { flag: "wx" });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    if (performance.now() > deadline) throw new Error(`another run holds ${path}`);
    if (!isHeld(path)) rmSync(path, { force: true });
    else await Bun.sleep(250);
  }
}

function isHeld(path: string): boolean {
  try {
    // A lock that was made this moment has no number yet.
    const pid = Number(readFileSync(path, "utf8") || process.pid);
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Anything but "no such process" and "no such file" means that it is there, as another user's.
    return !["ESRCH", "ENOENT"].includes((error as NodeJS.ErrnoException).code ?? "");
  }
}

/** Builds aside and renames, so that two test runs at once never see half a program. */
async function install(go: string, name: GoTool): Promise<void> {
  const workDir = mkdtempSync(join(binDir, ".install-"));
  try {
    await runProcess({
      command: go,
      args: ["install", ...(optimized.has(name) ? [] : quickBuild), goTools[name]],
      cwd: workDir,
      env: { GOBIN: workDir, CGO_ENABLED: "0" },
      timeoutMs: installTimeoutMs,
    });
    renameSync(join(workDir, name), join(binDir, name));
  } finally {
    rmSync(workDir, { recursive: true, force: true });
  }
}
