/**
 * nginx: with sendfile on a directory, the measure for blob pulls; in front of another server, as operators have it. It runs
 * unprivileged, in the foreground, with every path of its own inside a temporary directory.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { PeerServer } from "./docker-registry.ts";
import { freePort, listeningPorts, startProcess } from "./process.ts";
import { makeTempDir } from "./temp-dir.ts";
import { requireTool } from "./tools.ts";

/** Serves the files below `root` on a free port of 127.0.0.1. Throws when nginx is not installed. */
export async function startNginx(root: string): Promise<PeerServer> {
  const port = await freePort();
  const http = `sendfile on;
  tcp_nopush on;
  default_type application/octet-stream;
  server { listen 127.0.0.1:${port}; root ${root}; }`;
  return { ...(await startNginxWith(http, port)), dataDir: root };
}

/** Passes everything on to `url`, keeping no bodies on disk, in buffers that do not slow blobs down. */
export async function startNginxProxy(url: string): Promise<PeerServer> {
  const port = await freePort();
  const http = `upstream target { server ${new URL(url).host}; keepalive 32; }
  server {
    listen 127.0.0.1:${port};
    client_max_body_size 0;
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    proxy_buffer_size 64k;
    proxy_buffers 16 64k;
    proxy_busy_buffers_size 128k;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    location / { proxy_pass http://target; }
  }`;
  return startNginxWith(http, port);
}

/** Runs it with the directives of an http section that listens on this port of 127.0.0.1. */
export async function startNginxWith(http: string, port: number): Promise<PeerServer> {
  const dir = makeTempDir("nginx");
  const path = join(dir.path, "nginx.conf");
  writeFileSync(path, nginxConfig(dir.path, http));
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
    dataDir: dir.path,
    process,
    stop: async () => {
      await process.stop();
      dir.remove();
    },
  };
}

function nginxConfig(dir: string, http: string): string {
  // workers as many as cores, as Debian's own configuration has it; one of another user could not read a test's files
  const user = process.getuid?.() === 0 ? "user root;" : "";
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  return `${user}
daemon off;
worker_processes auto;
pid ${join(dir, "nginx.pid")};
events { worker_connections 1024; }
http {
  access_log off;
${temporary.map((kind) => `  ${kind}_temp_path ${join(dir, kind)};`).join("\n")}
  ${http}
}
`;
}
