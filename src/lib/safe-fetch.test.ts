import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { parseIp } from "./ip-address.ts";
import { createSafeFetch, isInside, type OutboundRequest, parseTarget, type SafeFetchOptions } from "./safe-fetch.ts";

interface Seen {
  host: string | null;
  method: string;
  path: string;
  authorization: string | null;
  body: string;
}

/** A self-signed certificate for `callback.test`, made for this run. */
async function makeCertificate(): Promise<{ cert: string; key: string }> {
  const made = Bun.spawn(
    [
      ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
      ...["-keyout", "-", "-out", "-", "-days", "2", "-subj", "/CN=callback.test"],
      ...["-addext", "subjectAltName=DNS:callback.test"],
    ],
    { stderr: "ignore" },
  );
  const text = await new Response(made.stdout).text();
  const part = (kind: string) => new RegExp(`-----BEGIN ${kind}-----[^-]*-----END ${kind}-----`).exec(text)?.[0] ?? "";
  return { key: part("PRIVATE KEY"), cert: part("CERTIFICATE") };
}

describe("safe fetch", () => {
  let seen: Seen[] = [];
  let http: Bun.Server<undefined>;
  let https: Bun.Server<undefined>;
  let cert = "";
  const bounds = { timeoutMs: 2_000, answerBytesMax: 1_000 };

  async function answer(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    seen.push({
      host: request.headers.get("host"),
      method: request.method,
      path: pathname,
      authorization: request.headers.get("authorization"),
      body: await request.text(),
    });
    const to = searchParams.get("to");
    if (to !== null) {
      return new Response(null, { status: Number(searchParams.get("status") ?? 302), headers: { location: to } });
    }
    if (pathname === "/slow") await Bun.sleep(5_000);
    if (pathname === "/long") return new Response("x".repeat(5_000));
    if (pathname === "/bomb") {
      const zeros = Bun.gzipSync(new Uint8Array(1_000_000));
      return new Response(zeros, { headers: { "content-encoding": "gzip" } });
    }
    return new Response("fine", { status: pathname === "/gone" ? 410 : 200 });
  }

  beforeAll(async () => {
    const made = await makeCertificate();
    cert = made.cert;
    http = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: answer });
    https = Bun.serve({ port: 0, hostname: "127.0.0.1", tls: made, fetch: answer });
  });
  afterAll(() => Promise.all([http.stop(true), https.stop(true)]));

  const names: Record<string, string[]> = {
    "callback.test": ["127.0.0.1"],
    "other.test": ["127.0.0.1"],
    "inside.test": ["10.1.2.3"],
    "mixed.test": ["169.254.169.254", "127.0.0.1"],
    "dead.test": ["127.0.0.2", "127.0.0.1"],
    "none.test": [],
  };
  const allowed = { allowedHosts: ["127.0.0.0/8"] };
  const ask = (url: string, more: Partial<OutboundRequest> = {}, options: Partial<SafeFetchOptions> = allowed) => {
    seen = [];
    const resolve = async (host: string) => names[host] ?? [];
    const request = { method: "GET", url, ...bounds, ...more } as const;
    return createSafeFetch({ allowedHosts: [], resolve, ...options })(request);
  };
  const failure = async (...args: Parameters<typeof ask>) => {
    const error = await ask(...args).catch((thrown: unknown) => thrown);
    return error as { code?: string; message?: string };
  };
  const at = (host: string, path = "/x") => `http://${host}:${http.port}${path}`;

  const inside = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "198.18.0.1", "192.0.2.1", "224.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::10.0.0.1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1",
    "2002:7f00:1::", "2001::1", "2001:db8::1", "fec0::1", "100::1", "4000::1",
  ]; // biome-ignore format: a list of addresses
  test.each(inside)("%s is inside", (text) => {
    expect(isInside(parseIp(text) ?? 0n)).toBe(true);
  });
  test.each(["1.1.1.1", "172.32.0.1", "100.128.0.1", "192.0.1.1", "::ffff:8.8.8.8", "2606:4700::1", "2a00::1"])(
    "%s is outside",
    (text) => {
      expect(isInside(parseIp(text) ?? 0n)).toBe(false);
    },
  );

  const spellings = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
  ];
  test.each([...spellings, "inside.test", "none.test", "callback.test", "CALLBACK.test."])(
    "http://%s is refused without being asked",
    async (host) => {
      const error = await failure(at(host), {}, {});
      expect(["invalid_request", "downstream_issue"]).toContain(error.code ?? "");
      expect(error.message).not.toContain("10.1.2.3");
      expect(seen).toEqual([]);
    },
  );

  test.each([
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://x/",
    "http://u:p@example.com/",
    "//x",
    "",
    "http://",
    "javascript:1",
  ])("%p is no target", (text) => {
    expect(() => parseTarget(text)).toThrow("must be an http or https URL");
  });

  test("a name, an address or a network may be allowed", async () => {
    for (const host of ["callback.test", "127.0.0.1", "127.0.0.0/8"]) {
      expect((await ask(at("callback.test"), {}, { allowedHosts: [host] })).status).toBe(200);
    }
    expect((await failure(at("other.test"), {}, { allowedHosts: ["callback.test"] })).code).toBe("invalid_request");
    expect((await ask(at("Callback.TEST"), {}, { allowedHosts: ["callback.test"] })).status).toBe(200);
  });

  test("the server sees the name, the method and the body, and the answer comes back", async () => {
    const post = { method: "POST", body: '{"a":1}', headers: { authorization: "Bearer x" } } as const;
    const { status, body } = await ask(at("callback.test", "/gone"), post);
    expect([status, Buffer.from(body).toString()]).toEqual([410, "fine"]);
    const host = `callback.test:${http.port}`;
    expect(seen).toEqual([{ host, method: "POST", path: "/gone", authorization: "Bearer x", body: '{"a":1}' }]);
  });

  test("the name is resolved once: an address that was checked is the one that is asked", async () => {
    let asked = 0;
    const resolve = async () => (++asked === 1 ? ["127.0.0.1"] : ["10.1.2.3"]);
    expect((await ask(at("rebind.test"), {}, { allowedHosts: ["127.0.0.1"], resolve })).status).toBe(200);
    expect(asked).toBe(1);
  });

  test("of a name's addresses only those that may be asked are, and a dead one is passed over", async () => {
    expect((await ask(at("mixed.test"))).status).toBe(200);
    expect((await ask(at("dead.test"))).status).toBe(200);
  });

  test("TLS is checked for the name, not for the address", async () => {
    const authorities = async () => [cert];
    const url = (host: string) => `https://${host}:${https.port}/x`;
    expect((await ask(url("callback.test"), {}, { ...allowed, authorities })).status).toBe(200);
    expect((await failure(url("other.test"), {}, { ...allowed, authorities })).code).toBe("downstream_issue");
    expect((await failure(url("127.0.0.1"), {}, { ...allowed, authorities })).code).toBe("downstream_issue");
    expect((await failure(url("callback.test"))).code).toBe("downstream_issue");
  });

  test("a redirect is the answer unless it may be followed", async () => {
    expect((await ask(at("callback.test", `/x?to=${at("other.test")}`))).status).toBe(302);
    expect(seen).toHaveLength(1);
  });

  test("a redirect is checked again, and takes no credentials to another host", async () => {
    const go = (to: string, status = 307) => at("callback.test", `/x?status=${status}&to=${encodeURIComponent(to)}`);
    const post = { method: "POST", body: "b", headers: { Authorization: "Bearer x" }, redirectsMax: 3 } as const;
    expect((await ask(go("/same"), post)).status).toBe(200);
    expect(seen[1]).toMatchObject({ path: "/same", method: "POST", authorization: "Bearer x", body: "b" });
    expect((await ask(go(at("other.test")), post)).status).toBe(200);
    expect(seen[1]).toMatchObject({ method: "POST", authorization: null, body: "b" });
    expect((await ask(go(at("other.test"), 303), post)).status).toBe(200);
    expect(seen[1]).toMatchObject({ method: "GET", authorization: null, body: "" });
    for (const target of [at("inside.test"), "http://169.254.169.254/latest/meta-data", "file:///etc/passwd"]) {
      expect((await failure(go(target), post, { allowedHosts: ["callback.test"] })).code).toBe("invalid_request");
    }
    expect((await ask(go(go("/again")), { ...post, redirectsMax: 1 })).status).toBe(307);
  });

  test("a redirect out of TLS is refused", async () => {
    const url = `https://callback.test:${https.port}/x?to=${encodeURIComponent(at("callback.test"))}`;
    const error = await failure(url, { redirectsMax: 3 }, { ...allowed, authorities: async () => [cert] });
    expect(error.message).toContain("without TLS");
  });

  test("time and size are bounded", async () => {
    expect((await failure(at("callback.test", "/slow"), { timeoutMs: 100 })).code).toBe("external_service_timeout");
    const never = { ...allowed, resolve: () => new Promise<string[]>(() => undefined) };
    expect((await failure(at("callback.test"), { timeoutMs: 50 }, never)).code).toBe("external_service_timeout");
    for (const path of ["/long", "/bomb"]) {
      expect((await failure(at("callback.test", path))).message).toContain("longer than 1000 bytes");
    }
    expect((await failure(`http://callback.test:1/`)).code).toBe("downstream_issue");
  });
});
