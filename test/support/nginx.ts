/**
 * nginx serving a directory with sendfile: the measure for blob pulls. It runs unprivileged, in the foreground, with
 * every path of its own inside a temporary directory.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { PeerServer } from "./docker-registry.ts";
import { freePort, listeningPorts, startProcess } from "./process.ts";
import { makeTempDir } from "./temp-dir.ts";
import { requireTool } from "./tools.ts";

/** Serves the files below `root` on a free port of 127.0.0.1. Throws when nginx is not installed. */
export async function startNginx(root: string): Promise<PeerServer> {
  const dir = makeTempDir("nginx");
  const port = await freePort();
  const path = join(dir.path, "nginx.conf");
  writeFileSync(path, nginxConfig(dir.path, root, port));
  const process = startProcess({
    command: requireTool("nginx"),
    args: ["-p", dir.path, "-c", path, "-e", join(dir.path, "error.log")],
    name: "nginx",
  });
  const url = `http://127.0.0.1:${port}`;
  await process.waitForUrl(url);
  if (!listeningPorts(process.pid).includes(port))
    throw new Error(`port ${port} belongs to another program than our nginx`);
  return {
    url,
    host: url.slice("http://".length),
    dataDir: root,
    process,
    stop: async () => {
      await process.stop();
      dir.remove();
    },
  };
}

function nginxConfig(dir: string, root: string, port: number): string {
  // workers as many as cores, as Debian's own configuration has it; a worker of another user could not read `root`
  const user = process.getuid?.() === 0 ? "user root;" : "";
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  return `${user}
daemon off;
worker_processes auto;
pid ${join(dir, "nginx.pid")};
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  default_type application/octet-stream;
${temporary.map((kind) => `  ${kind}_temp_path ${join(dir, kind)};`).join("\n")}
  server { listen 127.0.0.1:${port}; root ${root}; }
}
`;
}
