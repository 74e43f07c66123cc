/**
 * What lies beside config.yaml, as in Quay's conf/stack: the server's certificate and key, extra certificate authorities,
 * and the files that paths in the config point to. Reads files and never writes one.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { isIP } from "node:net";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { ConfigError, type ConfigProblem } from "./error.ts";
import type { Config } from "./schema.ts";
import { CONFIG_SIZE_BYTES_MAX } from "./yaml.ts";

export interface TlsFiles {
  readonly certPath: string;
  readonly keyPath: string;
  /** TLS versions by their number on the wire (0x0303 is TLS 1.2), from SSL_PROTOCOLS. */
  readonly minVersion: number;
  readonly maxVersion: number;
  /** SSL_CIPHERS as one OpenSSL list; undefined leaves the choice to the TLS library. */
  readonly ciphers: string | undefined;
}

const TLS_VERSIONS = { TLSv1: 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304 } as const;

/** Reads the file that `--config` names: the file itself, or `config.yaml` in a directory. Throws ConfigError. */
export function readConfigFile(configPath: string): { text: string; fileName: string; dir: string } {
  const path = resolve(configPath);
  try {
    const file = statSync(path).isDirectory() ? join(path, "config.yaml") : path;
    const sizeBytes = statSync(file).size;
    if (sizeBytes > CONFIG_SIZE_BYTES_MAX) {
      throw new Error(`it has ${sizeBytes} bytes, more than the ${CONFIG_SIZE_BYTES_MAX} that a config.yaml may have`);
    }
    return { text: readFileSync(file, "utf8"), fileName: file, dir: dirname(file) };
  } catch (error) {
    const message = `cannot read the config "${configPath}": ${reason(error)}. --config names a directory with config.yaml or the file itself.`;
    throw new ConfigError([{ key: configPath, message }], error);
  }
}

/**
 * The TLS files to serve with, when TLS is ours (https and no EXTERNAL_TLS_TERMINATION). Certificate and key must be there,
 * belong together and cover SERVER_HOSTNAME.
 */
export function findTls(
  config: Config,
  dir: string | undefined,
): { tls: TlsFiles | undefined; problems: ConfigProblem[] } {
  if (config.PREFERRED_URL_SCHEME !== "https" || config.EXTERNAL_TLS_TERMINATION)
    return { tls: undefined, problems: [] };
  const certPath = join(dir ?? "", "ssl.cert");
  const keyPath = join(dir ?? "", "ssl.key");
  const problem = dir === undefined ? NO_CERTIFICATES : findCertificateFault(config, certPath, keyPath);
  if (problem) return { tls: undefined, problems: [problem] };
  const versions = config.SSL_PROTOCOLS.map((name) => TLS_VERSIONS[name]);
  const [minVersion, maxVersion] = [Math.min(...versions), Math.max(...versions)];
  return { tls: { certPath, keyPath, minVersion, maxVersion, ciphers: config.SSL_CIPHERS?.join(":") }, problems: [] };
}

const NO_CERTIFICATES: ConfigProblem = {
  key: "ssl.cert",
  message:
    "Certificates are required for SSL but are not present: put ssl.cert and ssl.key beside config.yaml, or set EXTERNAL_TLS_TERMINATION: true",
};

function findCertificateFault(config: Config, certPath: string, keyPath: string): ConfigProblem | undefined {
  const missing = [certPath, keyPath].filter((path) => !existsSync(path));
  if (missing.length === 2) return NO_CERTIFICATES;
  if (missing[0] !== undefined) {
    const name = missing[0] === certPath ? "ssl.cert" : "ssl.key";
    return { key: name, message: `Certificate ${name} is required for HostSettings. It is not at "${missing[0]}".` };
  }
  try {
    const certificate = new X509Certificate(readFileSync(certPath));
    if (!certificate.checkPrivateKey(createPrivateKey(readFileSync(keyPath)))) {
      return { key: "ssl.key", message: `"${keyPath}" is not the key of the certificate "${certPath}"` };
    }
    const host = config.SERVER_HOSTNAME?.replace(/:[0-9]+$/, "").replace(/^\[|\]$/g, "");
    const covers =
      host === undefined || (isIP(host) ? certificate.checkIP(host) : certificate.checkHost(host)) !== undefined;
    if (covers) return undefined;
    const names = certificate.subjectAltName ?? "no name";
    return {
      key: "ssl.cert",
      message: `the certificate "${certPath}" is valid for ${names}, not for SERVER_HOSTNAME "${host}"`,
    };
  } catch (error) {
    // OpenSSL's words name neither file nor content, so both paths are given.
    return {
      key: "ssl.cert",
      message: `cannot read "${certPath}" and "${keyPath}" as certificate and key in PEM: ${reason(error)}`,
    };
  }
}

/** Certificate authorities to trust beside the system's: `extra_ca_certs/*` and `extra_ca_cert_*`, sorted by name. */
export function findExtraCas(dir: string | undefined): { paths: string[]; warnings: string[] } {
  if (dir === undefined) return { paths: [], warnings: [] };
  const folder = join(dir, "extra_ca_certs");
  const inFolder = isDirectory(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [folder];
  const beside = readdirSync(dir)
    .filter((name) => name.startsWith("extra_ca_cert_"))
    .map((name) => join(dir, name));
  const files = [...inFolder, ...beside].filter((path) => existsSync(path) && !isDirectory(path)).sort();
  const paths: string[] = [];
  const warnings: string[] = [];
  for (const path of files) {
    const fault = findPemFault(path);
    if (fault === undefined) paths.push(path);
    else warnings.push(`the extra certificate authority "${path}" is left out: ${fault}`);
  }
  return { paths, warnings };
}

function findPemFault(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").includes("-----BEGIN CERTIFICATE-----")
      ? undefined
      : "it holds no PEM certificate";
  } catch (error) {
    return reason(error);
  }
}

/** A path of the config against the config's directory; without a config file, against the working directory. */
export function resolvePath(dir: string | undefined, path: string): string {
  return isAbsolute(path) ? path : resolve(dir ?? ".", path);
}

/**
 * Like `resolvePath`, for certificates and keys. Quay's documents write them as its container sees them, below `conf/stack`
 * or `/conf/stack`, which is the config's directory here; such a path is followed when the file is there and only there.
 */
export function resolveStackFile(dir: string | undefined, path: string): string {
  const plain = resolvePath(dir, path);
  const inStack = /^(?:\/quay-registry\/|\/)?conf\/stack\/(.+)$/.exec(path)?.[1];
  if (dir === undefined || inStack === undefined || existsSync(plain)) return plain;
  const moved = join(dir, inStack);
  return existsSync(moved) ? moved : plain;
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function reason(error: unknown): string {
  if (error instanceof Error && "code" in error && error.code === "ENOENT") return "no such file or directory";
  if (error instanceof Error && "code" in error && error.code === "EACCES") return "permission denied";
  return error instanceof Error ? error.message : String(error);
}
