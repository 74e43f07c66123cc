/**
 * Finds the programs that tests and benchmarks call. A missing one is an error that names the command which installs it:
 * nothing is skipped in silence.
 */

/** Debian packages of programs whose package has another name. */
const debianPackages: Record<string, string> = {
  ceph: "ceph-common",
  dockerd: "docker.io",
  htpasswd: "apache2-utils",
  ip: "iproute2",
  "keystone-manage": "python3-keystone",
  ldd: "libc-bin",
  monmaptool: "ceph-base",
  nft: "nftables",
  nginx: "nginx-light",
  node: "nodejs",
  // The oldest that we promise; the newest comes with npm.
  postgres: "postgresql-15",
  psql: "postgresql-client",
  setpriv: "util-linux",
  "radosgw-admin": "ceph-common",
  "swift-account-server": "swift-account",
  "swift-container-server": "swift-container",
  "swift-object-server": "swift-object",
  "swift-proxy-server": "swift-proxy",
  "swift-ring-builder": "swift",
  unshare: "util-linux",
};

/** Debian keeps daemons here, and a user's PATH may leave it out. */
const daemonDirs = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/lib/postgresql/15/bin"];

/** Path of a program, undefined when it is not installed. `TEST_NAME` (as in TEST_PODMAN) names another one. */
export function findTool(name: string): string | undefined {
  const chosen = process.env[`TEST_${name.toUpperCase().replaceAll("-", "_")}`];
  if (chosen) {
    const path = Bun.which(chosen);
    if (!path) throw new Error(`TEST_${name.toUpperCase()} names "${chosen}", which is not an executable file`);
    return path;
  }
  return Bun.which(name, { PATH: [process.env.PATH ?? "", ...daemonDirs].join(":") }) ?? undefined;
}

/** The Debian package that brings a program. */
export function debianPackageOf(name: string): string {
  return debianPackages[name] ?? name;
}

/** Path of a program. Throws with the Debian package to install when it is missing. */
export function requireTool(name: string): string {
  const path = findTool(name);
  if (path === undefined) {
    throw new Error(`"${name}" is needed and not installed. On Debian: apt-get install ${debianPackageOf(name)}`);
  }
  return path;
}
