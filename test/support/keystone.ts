/**
 * A real OpenStack Keystone on this machine, from Debian's package, on SQLite: version 3 of the API, with the projects and
 * users that a Swift and its user need.
 */
import { Database } from "bun:sqlite";
import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort, runProcess, startProcess } from "./process.ts";
import { makeTempDir } from "./temp-dir.ts";
import { requireTool } from "./tools.ts";

export interface Keystone {
  /** `http://127.0.0.1:PORT/v3`. */
  readonly url: string;
  readonly region: string;
  /** Password of the user `swift` in project `service`, as which a Swift proxy asks about tokens. */
  readonly servicePassword: string;
  /** Who stores: a member of `projectId` in the domain `registries`. */
  readonly user: string;
  readonly password: string;
  readonly projectId: string;
  readonly projectName: string;
  readonly domain: string;
  /** Names a Swift proxy in the catalog, which its address is not known before. */
  addSwift(proxyUrl: string): Promise<void>;
  stop(): Promise<void>;
}

const region = "RegionOne";
const adminPassword = "admin-password";
const servicePassword = "service-password";
/** The schema is made by a hundred migrations, some of them on a busy machine. */
const SETUP_MS = 180_000;
const START_MS = 60_000;

/** The WSGI server of Python's own library: no web server is needed for one client. */
const serverProgram = `
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import make_server, WSGIServer
config, port = sys.argv[1], int(sys.argv[2])
sys.argv = ["keystone", "--config-file", config]
from keystone.server.wsgi import initialize_public_application
class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
make_server("127.0.0.1", port, initialize_public_application(), server_class=Server).serve_forever()
`;

/** Starts Keystone. Throws when it is not installed, with the command that does it. */
export async function startKeystone(): Promise<Keystone> {
  const manage = requireTool("keystone-manage");
  const dir = makeTempDir("keystone");
  const path = (name: string) => join(dir.path, name);
  for (const name of ["fernet", "credential"]) {
    mkdirSync(path(name), { mode: 0o700 });
    // What keystone-manage would make in seconds each: the staged key and the primary one.
    for (const key of ["0", "1"]) writeFileSync(join(path(name), key), `${randomBytes(32).toString("base64url")}=`);
  }
  const config = path("keystone.conf");
  writeFileSync(
    config,
    [
      "[DEFAULT]\nuse_stderr = true\nlog_file =",
      `[database]\nconnection = sqlite:///${path("keystone.db")}`,
      "[token]\nprovider = fernet",
      `[fernet_tokens]\nkey_repository = ${path("fernet")}`,
      `[credential]\nkey_repository = ${path("credential")}`,
      "[cache]\nenabled = false",
      // Each token is asked for with a password; the cheapest hash that Keystone allows.
      "[identity]\npassword_hash_algorithm = bcrypt\npassword_hash_rounds = 4\n",
    ].join("\n"),
  );
  const port = await freePort();
  const url = `http://127.0.0.1:${port}/v3`;
  const run = (...args: readonly string[]) =>
    runProcess({ command: manage, args: ["--config-file", config, ...args], timeoutMs: SETUP_MS });
  await run("db_sync");
  // Each of its threads keeps a connection, and one that reads would lock out the one that writes.
  const database = new Database(path("keystone.db"));
  database.run("pragma journal_mode = wal");
  database.close();
  const urls = ["--bootstrap-public-url", url, "--bootstrap-internal-url", url, "--bootstrap-admin-url", url];
  await run("bootstrap", "--bootstrap-password", adminPassword, "--bootstrap-region-id", region, ...urls);

  const server = startProcess({
    // Debian's Keystone is for Debian's own Python.
    command: "/usr/bin/python3",
    args: ["-c", serverProgram, config, String(port)],
    env: { OS_KEYSTONE_CONFIG_FILES: config, OS_KEYSTONE_CONFIG_DIR: dir.path },
    name: "keystone",
  });
  const stop = async () => {
    await server.stop();
    dir.remove();
  };
  try {
    await server.waitForUrl(url, { timeoutMs: START_MS, accept: (status) => status === 200 });
    const token = await adminToken(url);
    const ask = async (method: string, resource: string, body?: object): Promise<string> => {
      const headers = { "x-auth-token": token, "content-type": "application/json" };
      const init = body === undefined ? {} : { body: JSON.stringify(body) };
      const response = await fetch(`${url}/${resource}`, { method, headers, ...init });
      const text = await response.text();
      if (!response.ok) throw new Error(`Keystone answered ${response.status} to ${method} ${resource}: ${text}`);
      return /"id": "([^"]+)"/.exec(text)?.[1] ?? "";
    };
    const grant = async (projectId: string, userId: string, role: string) => {
      const roles = await (await fetch(`${url}/roles?name=${role}`, { headers: { "x-auth-token": token } })).text();
      const roleId = /"id": "([^"]+)"/.exec(roles)?.[1];
      await ask("PUT", `projects/${projectId}/users/${userId}/roles/${roleId}`);
    };

    const service = await ask("POST", "projects", { project: { name: "service", domain_id: "default" } });
    const swift = { name: "swift", password: servicePassword, domain_id: "default" };
    await grant(service, await ask("POST", "users", { user: swift }), "admin");
    const domain = "registries";
    const domainId = await ask("POST", "domains", { domain: { name: domain } });
    const projectName = "images";
    const projectId = await ask("POST", "projects", { project: { name: projectName, domain_id: domainId } });
    const [user, password] = ["berth", "user-password"];
    await grant(
      projectId,
      await ask("POST", "users", { user: { name: user, password, domain_id: domainId } }),
      "member",
    );

    return {
      ...{ url, region, servicePassword, user, password, projectId, projectName, domain },
      addSwift: async (proxyUrl) => {
        const serviceId = await ask("POST", "services", { service: { type: "object-store", name: "swift" } });
        for (const name of ["public", "internal"]) {
          const endpoint = { interface: name, region_id: region, service_id: serviceId };
          const address = `${proxyUrl}/v1/AUTH_%(project_id)s`;
          await ask("POST", "endpoints", { endpoint: { ...endpoint, url: address } });
        }
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function adminToken(url: string): Promise<string> {
  const domain = { id: "default" };
  const identity = { methods: ["password"], password: { user: { name: "admin", domain, password: adminPassword } } };
  const response = await fetch(`${url}/auth/tokens`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ auth: { identity, scope: { project: { name: "admin", domain } } } }),
  });
  const token = response.headers.get("x-subject-token");
  if (token === null) throw new Error(`Keystone answered ${response.status} to its admin: ${await response.text()}`);
  return token;
}
