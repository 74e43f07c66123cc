/**
 * A real OpenStack Swift on this machine, from Debian's packages: account, container and object server with one replica on
 * a temporary directory, and one proxy for each way of speaking to it (TempAuth, Keystone, without static large objects).
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { freePort, type RunningProcess, runProcess, startProcess } from "./process.ts";
import { makeTempDir } from "./temp-dir.ts";
import { requireTool } from "./tools.ts";

export interface SwiftProxyOptions {
  /** Static large objects; true unless given. */
  readonly slo?: boolean;
  /** Address of a Keystone (`http://127.0.0.1:5000/v3`) that knows the user `swift` with this password in project `service`. */
  readonly keystone?: { readonly url: string; readonly password: string };
  /** Speaks S3 as well, with the user as access key and the password as secret. */
  readonly s3?: boolean;
  /** Most segments of one manifest; Swift's own bound is 1,000. */
  readonly segmentsMax?: number;
}

export interface SwiftProxy {
  readonly url: string;
  readonly process: RunningProcess;
  stop(): Promise<void>;
}

export interface SwiftCluster {
  /** Address for auth_version 1 at a proxy. */
  authUrl(proxy: SwiftProxy): string;
  startProxy(options?: SwiftProxyOptions): Promise<SwiftProxy>;
  /** Makes every token of TempAuth and Keystone unknown to the proxies, as if its time were over. */
  forgetTokens(): Promise<void>;
  stop(): Promise<void>;
}

export const swiftUser = "test:tester";
export const swiftPassword = "testing";

/** A first start compiles what Debian did not, on a machine that may be busy. */
const START_MS = 60_000;
/**
 * Swift gives its servers half a second to connect and one to list a new object, leaves the rest to daemons that do not run
 * here, and shuns a server that was slow a few times: with one replica, on a busy machine, that is an outage.
 */
const PATIENCE = {
  conn_timeout: 30,
  node_timeout: 60,
  container_update_timeout: 60,
  error_suppression_limit: 1_000_000,
};
const CACHE_PATIENCE = { connect_timeout: 30, io_timeout: 30, pool_timeout: 30, error_suppression_limit: 1_000_000 };
const SERVERS = ["account", "container", "object"] as const;

/** Starts everything but a proxy. Throws when a program is missing, with the command that installs it. */
export async function startSwift(): Promise<SwiftCluster> {
  const programs = Object.fromEntries(
    [...SERVERS, "proxy"].map((name) => [name, requireTool(`swift-${name}-server`)] as const),
  );
  const builder = requireTool("swift-ring-builder");
  const memcached = requireTool("memcached");
  const dir = makeTempDir("swift");
  const etc = join(dir.path, "etc");
  for (const name of ["etc", "srv/d1", "cache"]) mkdirSync(join(dir.path, name), { recursive: true });
  const user = (await runProcess({ command: requireTool("id"), args: ["-un"] })).stdout.trim();
  const defaults = (port: number) => ({
    bind_ip: "127.0.0.1",
    bind_port: port,
    workers: 0,
    user,
    swift_dir: etc,
    log_level: "WARNING",
    // There is no syslog: what goes wrong is said on stderr, with -v.
    log_address: join(dir.path, "no-syslog"),
  });
  const ini = (name: string, sections: Record<string, Record<string, string | number | boolean>>) => {
    const text = Object.entries(sections).map(([section, values]) =>
      [`[${section}]`, ...Object.entries(values).map(([key, value]) => `${key} = ${value}`), ""].join("\n"),
    );
    writeFileSync(join(etc, name), text.join("\n"));
  };

  ini("swift.conf", {
    "swift-hash": { swift_hash_path_suffix: "suffix", swift_hash_path_prefix: "prefix" },
    "storage-policy:0": { name: "default", default: "yes" },
  });
  const running: RunningProcess[] = [];
  const env = { SWIFT_DIR: etc };
  const start = (name: string, config: string): RunningProcess => {
    const server = startProcess({ command: programs[name] ?? "", args: [join(etc, config), "-v"], env, name });
    running.push(server);
    return server;
  };
  const stop = async () => {
    await Promise.all(running.map((server) => server.stop()));
    dir.remove();
  };

  try {
    const cachePort = await freePort();
    const cacheUser = process.getuid?.() === 0 ? ["-u", "nobody"] : [];
    const args = ["-l", "127.0.0.1", "-p", String(cachePort), "-U", "0", "-m", "32", "-t", "1", ...cacheUser];
    running.push(startProcess({ command: memcached, args }));
    await Promise.all(
      SERVERS.map(async (name) => {
        const port = await freePort();
        const run = (...args: readonly string[]) =>
          runProcess({ command: builder, args: [join(etc, `${name}.builder`), ...args], env, timeoutMs: START_MS });
        await run("create", "4", "1", "0");
        const device = ["--region", "1", "--zone", "1", "--ip", "127.0.0.1", "--port", String(port), "--device", "d1"];
        await run("add", ...device, "--weight", "1");
        await run("rebalance");
        ini(`${name}.conf`, {
          DEFAULT: { ...defaults(port), devices: join(dir.path, "srv"), mount_check: false, disable_fallocate: true },
          "pipeline:main": { pipeline: `${name}-server` },
          [`app:${name}-server`]: { use: `egg:swift#${name}`, recon_cache_path: join(dir.path, "cache"), ...PATIENCE },
        });
        const server = start(name, `${name}.conf`);
        await server.waitForUrl(`http://127.0.0.1:${port}/healthcheck`, { timeoutMs: START_MS, accept: () => true });
      }),
    );

    let proxies = 0;
    const startProxy = async (options: SwiftProxyOptions = {}): Promise<SwiftProxy> => {
      const port = await freePort();
      const config = `proxy-${++proxies}.conf`;
      ini(config, proxyConfig({ ...defaults(port) }, cachePort, options));
      const server = start("proxy", config);
      const url = `http://127.0.0.1:${port}`;
      await server.waitForUrl(`${url}/healthcheck`, { timeoutMs: START_MS, accept: (status) => status === 200 });
      return { url, process: server, stop: async () => void (await server.stop()) };
    };
    const authUrl = ({ url }: SwiftProxy) => `${url}/auth/v1.0`;
    return {
      authUrl,
      startProxy,
      forgetTokens: () => sendLine(cachePort, "flush_all"),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function proxyConfig(
  defaults: Record<string, string | number>,
  cachePort: number,
  { slo = true, keystone, s3 = false, segmentsMax = 1000 }: SwiftProxyOptions,
): Record<string, Record<string, string | number | boolean>> {
  const auth = keystone ? ["authtoken", "keystoneauth"] : ["tempauth"];
  const before = ["catch_errors", "gatekeeper", "healthcheck", "cache", "listing_formats", ...(s3 ? ["s3api"] : [])];
  const after = [
    "copy",
    ...(slo ? ["slo"] : []),
    "dlo",
    ...(s3 ? ["versioned_writes", "symlink"] : []),
    "proxy-server",
  ];
  const filters = Object.fromEntries(
    [...before, ...after, "tempurl"]
      .filter((name) => name !== "proxy-server" && name !== "cache")
      .map((name) => [`filter:${name}`, { use: `egg:swift#${name}` }]),
  );
  return {
    DEFAULT: defaults,
    "pipeline:main": { pipeline: [...before, "tempurl", ...auth, ...after].join(" ") },
    ...filters,
    "filter:cache": { use: "egg:swift#memcache", memcache_servers: `127.0.0.1:${cachePort}`, ...CACHE_PATIENCE },
    "filter:slo": { use: "egg:swift#slo", max_manifest_segments: segmentsMax },
    ...(s3 ? { "filter:s3api": { use: "egg:swift#s3api", location: "us-east-1", s3_acl: false } } : {}),
    ...(s3 ? { "filter:versioned_writes": { use: "egg:swift#versioned_writes", allow_object_versioning: true } } : {}),
    "filter:tempauth": { use: "egg:swift#tempauth", user_test_tester: `${swiftPassword} .admin` },
    ...(keystone ? keystoneFilters(keystone, cachePort) : {}),
    "app:proxy-server": { use: "egg:swift#proxy", account_autocreate: true, ...PATIENCE },
  };
}

function keystoneFilters(
  { url, password }: { readonly url: string; readonly password: string },
  cachePort: number,
): Record<string, Record<string, string | boolean>> {
  return {
    "filter:authtoken": {
      "paste.filter_factory": "keystonemiddleware.auth_token:filter_factory",
      www_authenticate_uri: url,
      auth_url: url,
      auth_type: "password",
      username: "swift",
      password,
      user_domain_id: "default",
      project_domain_id: "default",
      project_name: "service",
      delay_auth_decision: true,
      memcached_servers: `127.0.0.1:${cachePort}`,
    },
    "filter:keystoneauth": { use: "egg:swift#keystoneauth", operator_roles: "admin, member" },
  };
}

/** Sends one command of memcached's text protocol and waits for its answer. */
function sendLine(port: number, line: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(`${line}\r\n`));
    socket.once("error", reject);
    socket.once("data", (answer) => {
      socket.end();
      if (answer.toString().startsWith("OK")) resolve();
      else reject(new Error(`memcached answered "${answer.toString().trim()}" to "${line}"`));
    });
  });
}
