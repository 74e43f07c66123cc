/**
 * The error envelope on every wrong path, method and name, and that no spelling of a path reaches a repository by another
 * name than access control saw. Requests are written by hand: client libraries tidy paths up.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { absentDigest, image, publish } from "../support/content.ts";
import { rawRequest } from "../support/raw-http.ts";
import { basicOf, password, type Registry, readEnvelope, startRegistry } from "./harness.ts";

const content = image("errors");
let registry: Registry;
let host: string;
let authorization: Record<string, string>;

beforeAll(async () => {
  registry = await startRegistry();
  host = registry.berth.host;
  await registry.user("errors");
  authorization = basicOf("errors");
  await publish(registry.client("errors", password), "errors/repo", content, "v1");
  await publish(registry.client("errors", password), "errors/a/b/c", content, "v1");
  await publish(registry.admin, "admin/secret", content, "v1");
}, 60_000);
afterAll(() => registry.stop());

const ask = (requestLine: string, headers: Record<string, string> = authorization, body = "") =>
  rawRequest(host, requestLine, headers, body);

describe("methods", () => {
  const digest = absentDigest;
  const routes: [string, string][] = [
    ["/v2/", "HEAD, GET"],
    ["/v2/_catalog", "HEAD, GET"],
    ["/v2/errors/repo/tags/list", "HEAD, GET"],
    [`/v2/errors/repo/referrers/${digest}`, "HEAD, GET"],
    ["/v2/errors/repo/manifests/v1", "HEAD, GET, PUT, DELETE"],
    [`/v2/errors/repo/blobs/${digest}`, "HEAD, GET, DELETE"],
    ["/v2/errors/repo/blobs/uploads/", "POST"],
    [`/v2/errors/repo/blobs/uploads/${crypto.randomUUID()}`, "HEAD, GET, PATCH, PUT, DELETE"],
    ["/v2/auth", "GET, HEAD, POST"],
  ];
  for (const [path, allow] of routes) {
    test(`${path.slice(0, 45)}: other methods are 405 with Allow: ${allow}`, async () => {
      const allowed = allow.split(", ");
      for (const method of ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]) {
        if (allowed.includes(method)) continue;
        const response = await ask(`${method} ${path}`);
        expect(response.status, method).toBe(405);
        expect(response.headers.allow, method).toBe(allow);
        if (method !== "HEAD") expect(readEnvelope(response.body).code).toBe("UNSUPPORTED");
      }
    });
  }

  test("a wrong method tells nobody without credentials what is there", async () => {
    for (const path of ["/v2/admin/secret/tags/list", "/v2/admin/none/tags/list", "/v2/nonsense"]) {
      const response = await ask(`POST ${path}`, {});
      expect(response.status).toBe(401);
      expect(readEnvelope(response.body).code).toBe("UNAUTHORIZED");
    }
  });
});

describe("paths that are none", () => {
  const paths = [
    "/v2/nonsense",
    "/v2/errors/repo",
    "/v2/errors/repo/",
    "/v2/errors/repo/manifests",
    "/v2/errors/repo/manifests/",
    "/v2/errors/repo/tags",
    "/v2/errors/repo/tags/all",
    "/v2/errors/repo/blobs/",
    "/v2/errors/repo/unknown/v1",
    "/v2/manifests/v1",
    "/v2/_catalog/",
    "/v2/auth/",
    "/v2/_catalogue",
    "/v2/blobs/uploads/",
  ];
  for (const path of paths) {
    test(`${path}: 404 in the envelope, with credentials; 401 without`, async () => {
      const response = await ask(`GET ${path}`);
      expect(response.status).toBe(404);
      expect(response.headers["content-type"]).toBe("application/json");
      expect(response.headers["docker-distribution-api-version"]).toBe("registry/2.0");
      expect(readEnvelope(response.body).code).toBe("NOT_FOUND");
      const anonymous = await ask(`GET ${path}`, {});
      expect(anonymous.status).toBe(401);
      expect(anonymous.headers["www-authenticate"]).toStartWith("Bearer realm=");
    });
  }

  test("outside of /v2 it is a 404 that names the path", async () => {
    for (const path of ["/v1/", "/v2x/", "/nothing", "/V2/", "/%762/", "/v2%2F_catalog"]) {
      const response = await ask(`GET ${path}`);
      expect(response.status, path).toBe(404);
      expect(JSON.parse(response.body)).toEqual({ message: "there is nothing at this path", path });
    }
  });
});

describe("names", () => {
  test("several slashes make one name, and path words may be part of it", async () => {
    const client = registry.client("errors", password);
    for (const name of [
      "errors/a/b/c",
      "errors/manifests/v1",
      "errors/x/blobs/uploads",
      "errors/tags/list",
      "errors/_x",
    ]) {
      const isValid = name !== "errors/_x";
      if (isValid) await publish(client, name, content, "v1");
      const response = await ask(`GET /v2/${name}/manifests/v1`);
      expect(response.status, name).toBe(isValid ? 200 : 400);
    }
  });

  test("an encoded slash is a slash, to access control as to the router", async () => {
    for (const path of [
      "/v2/errors%2Frepo/manifests/v1",
      "/v2/errors%2frepo%2Fmanifests%2Fv1",
      "/v2/%65rrors/repo/manifests/%76%31",
      `/v2/errors/repo/manifests/${content.digest.replace(":", "%3A")}`,
    ]) {
      const response = await ask(`GET ${path}`);
      expect(response.status, path).toBe(200);
      expect(response.headers["docker-content-digest"]).toBe(content.digest);
    }
    for (const path of ["/v2/admin%2Fsecret/manifests/v1", "/v2/errors%2F..%2Fadmin%2Fsecret/manifests/v1"]) {
      const response = await ask(`GET ${path}`);
      expect([400, 403], path).toContain(response.status);
      expect((await ask(`GET ${path}`, {})).status, path).not.toBe(200);
    }
  });

  test("encoding is undone once: an encoded percent sign is none of a name's characters", async () => {
    const response = await ask("GET /v2/errors%252Frepo/manifests/v1");
    expect(response.status).toBe(400);
    expect(readEnvelope(response.body).code).toBe("NAME_INVALID");
  });

  const wrong = [
    "errors//repo",
    "errors/repo%2F..%2F..%2Fadmin%2Fsecret",
    "errors/repo%00",
    "errors/re%00po",
    "errors/re%0d%0apo",
    "errors/re%FFpo",
    "errors/re%C3%28po",
    "errors/r%C3%A9po",
    "errors/repo%",
    "errors/repo%zz",
    "errors/re%20po",
    "errors/re%5Cpo",
    "errors/Repo",
    "Errors/repo",
    "errors/-repo",
    "errors/.repo",
    "e/repo",
    "-errors/repo",
    "err..ors/repo",
    `errors/${"a".repeat(256)}`,
    `${"a".repeat(256)}/repo`,
    `errors/${"a/".repeat(300)}b`,
    `errors/${"a".repeat(5000)}`,
  ];
  for (const name of wrong) {
    test(`${name.length > 60 ? `${name.slice(0, 20)}… of ${name.length} bytes` : name}: NAME_INVALID for every route`, async () => {
      for (const requestLine of [
        `GET /v2/${name}/manifests/v1`,
        `PUT /v2/${name}/manifests/v1`,
        `GET /v2/${name}/tags/list`,
        `GET /v2/${name}/blobs/${content.digest}`,
        `POST /v2/${name}/blobs/uploads/`,
        `GET /v2/${name}/referrers/${content.digest}`,
        `DELETE /v2/${name}/manifests/v1`,
      ]) {
        const response = await ask(requestLine);
        expect(response.status, requestLine).toBe(400);
        expect(readEnvelope(response.body).code).toBe("NAME_INVALID");
        expect(response.headers["docker-content-digest"]).toBeUndefined();
      }
    });
  }

  test("dot components are resolved before anybody reads the path, so they name what the resolved path names", async () => {
    for (const [path, resolved] of [
      ["/v2/errors/./repo/manifests/v1", "/v2/errors/repo/manifests/v1"],
      ["/v2/errors/../admin/secret/manifests/v1", "/v2/admin/secret/manifests/v1"],
      ["/v2/errors/repo/%2e%2e/%2E./admin/secret/manifests/v1", "/v2/admin/secret/manifests/v1"],
      ["/v2/errors/repo/../manifests/v1", "/v2/errors/manifests/v1"],
      ["/v2/errors/../_catalog", "/v2/_catalog"],
      ["/v2/../v2/errors/repo/manifests/v1", "/v2/errors/repo/manifests/v1"],
      ["/v2/../../etc/passwd", "/etc/passwd"],
      ["/nothing/../v2/admin/secret/manifests/v1", "/v2/admin/secret/manifests/v1"],
    ] as const) {
      for (const headers of [authorization, {}]) {
        const [odd, plain] = [await ask(`GET ${path}`, headers), await ask(`GET ${resolved}`, headers)];
        expect(odd.status, path).toBe(plain.status);
        expect(odd.body).toBe(plain.body);
      }
    }
  });

  test("names of the longest length work: 255 and 255", async () => {
    const namespace = "n".repeat(255);
    await registry.user(namespace);
    const path = `${namespace}/${"r".repeat(255)}`;
    await publish(registry.client(namespace, password), path, content, "t".repeat(128));
    const response = await ask(`GET /v2/${path}/manifests/${"t".repeat(128)}`, basicOf(namespace));
    expect(response.status).toBe(200);
  });

  test("bytes outside ASCII in the request line are refused", async () => {
    const response = await ask("GET /v2/errors/r\u00e9po/manifests/v1");
    expect(response.status).toBe(400);
  });

  test("a whole URL as request target is read as its path", async () => {
    const response = await ask(`GET http://${host}/v2/errors/repo/manifests/v1`);
    expect(response.status).toBe(200);
    const outside = await ask(`GET http://${host}/v2/errors/../admin/secret/manifests/v1`);
    expect([400, 403]).toContain(outside.status);
  });

  test("a name without namespace is library's", async () => {
    const response = await ask("GET /v2/busybox/manifests/latest");
    expect(response.status).toBe(403);
    expect(readEnvelope(response.body)).toMatchObject({ code: "DENIED", detail: { name: "library/busybox" } });
  });
});

describe("HEAD", () => {
  test("errors have their status and headers and no body", async () => {
    for (const [path, status] of [
      ["/v2/errors/repo/manifests/none", 404],
      [`/v2/errors/repo/blobs/${absentDigest}`, 404],
      ["/v2/errors/repo/blobs/sha256:abc", 400],
      ["/v2/errors//repo/manifests/v1", 400],
      ["/v2/admin/secret/manifests/v1", 403],
      ["/v2/nonsense", 404],
    ] as const) {
      const response = await ask(`HEAD ${path}`);
      expect(response.status, path).toBe(status);
      const whole = await ask(`GET ${path}`);
      expect(whole.status, path).toBe(status);
      expect(whole.body.length).toBeGreaterThan(0);
    }
    const anonymous = await ask("HEAD /v2/errors/repo/manifests/v1", {});
    expect(anonymous.status).toBe(401);
    expect(anonymous.headers["www-authenticate"]).toContain('scope="repository:errors/repo:pull"');
  });
});

describe("what a stranger learns", () => {
  test("a hidden repository and an absent one answer alike, by every method and credential", async () => {
    const token = await basicToken("errors", "repository:admin/secret:pull,push repository:admin/absent:pull,push");
    for (const headers of [authorization, {}, { authorization: `Bearer ${token}` }]) {
      for (const [method, rest] of [
        ["GET", "manifests/v1"],
        ["GET", `manifests/${content.digest}`],
        ["PUT", "manifests/v1"],
        ["DELETE", "manifests/v1"],
        ["GET", "tags/list"],
        ["GET", `blobs/${absentDigest}`],
        ["DELETE", `blobs/${absentDigest}`],
        ["POST", "blobs/uploads/"],
        ["GET", `referrers/${content.digest}`],
        ["PATCH", `blobs/uploads/${crypto.randomUUID()}`],
      ] as const) {
        const hidden = await ask(`${method} /v2/admin/secret/${rest}`, headers);
        const absent = await ask(`${method} /v2/admin/absent/${rest}`, headers);
        const foreign = await ask(`${method} /v2/nobody-has-this/absent/${rest}`, headers);
        const generic = (text: string) =>
          text
            .replaceAll("admin/secret", "NAME")
            .replaceAll("admin/absent", "NAME")
            .replaceAll("nobody-has-this/absent", "NAME");
        expect(hidden.status, `${method} ${rest}`).toBe(absent.status);
        expect(hidden.status).toBe(foreign.status);
        expect(generic(hidden.body)).toBe(generic(absent.body));
        expect(generic(hidden.body)).toBe(generic(foreign.body));
        expect(generic(hidden.headers["www-authenticate"] ?? "")).toBe(
          generic(absent.headers["www-authenticate"] ?? ""),
        );
        expect([401, 403, 404]).toContain(hidden.status);
      }
    }
  });
});

describe("every answer", () => {
  test("has a request id; one that a proxy gave is kept when it is harmless", async () => {
    const harmless = /^[A-Za-z0-9._-]{8,64}$/;
    const ids = [await ask("GET /v2/"), await ask("GET /v2/"), await ask("GET /nothing")].map(
      (response) => response.headers["x-request-id"] ?? "",
    );
    for (const id of ids) expect(id).toMatch(harmless);
    expect(new Set(ids).size).toBe(3);
    const kept = await ask("GET /v2/", { ...authorization, "x-request-id": "proxy-17.a_B" });
    expect(kept.headers["x-request-id"]).toBe("proxy-17.a_B");
    for (const odd of ['"><script>', "a b", "x".repeat(65)]) {
      const replaced = await ask("GET /v2/", { ...authorization, "x-request-id": odd });
      expect(replaced.headers["x-request-id"]).toMatch(harmless);
      expect(replaced.headers["x-request-id"]).not.toBe(odd);
    }
  });
});

async function basicToken(username: string, scope: string): Promise<string> {
  const query = new URLSearchParams({ scope });
  const response = await fetch(`${registry.berth.url}/v2/auth?${query}`, { headers: basicOf(username) });
  return ((await response.json()) as { token: string }).token;
}
