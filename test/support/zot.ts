/**
 * zot on a local directory: the second peer of the benchmarks, where Go is at hand. `commit` is on, so that its blobs are
 * fsynced before they are acknowledged as ours are; its deduplication and other extensions are off.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { PeerServer } from "./docker-registry.ts";
import { freePort, listeningPorts, startProcess } from "./process.ts";
import { makeTempDir } from "./temp-dir.ts";

/** Starts the program at `command` (see `findGoTool("zot")`) on a free port of 127.0.0.1 with an empty store. */
export async function startZot(command: string): Promise<PeerServer> {
  const dir = makeTempDir("zot");
  const dataDir = join(dir.path, "data");
  mkdirSync(dataDir);
  const port = await freePort();
  const config = {
    distSpecVersion: "1.1.1",
    storage: { rootDirectory: dataDir, commit: true, dedupe: false, gc: false },
    http: { address: "127.0.0.1", port: String(port) },
    log: { level: "error" },
  };
  writeFileSync(join(dir.path, "config.json"), JSON.stringify(config));
  const process = startProcess({ command, args: ["serve", join(dir.path, "config.json")], cwd: dir.path, name: "zot" });
  const url = `http://127.0.0.1:${port}`;
  await process.waitForUrl(`${url}/v2/`);
  if (!listeningPorts(process.pid).includes(port))
    throw new Error(`port ${port} belongs to another program than our zot`);
  return {
    url,
    host: url.slice("http://".length),
    dataDir,
    process,
    stop: async () => {
      await process.stop();
      dir.remove();
    },
  };
}
