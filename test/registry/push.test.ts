/** Pushing blobs: every shape of upload, what breaks one and what does not, and mounts. Spec: distribution-spec "Push". */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { absentDigest, fixedBytes, image, publish } from "../support/content.ts";
import {
  digestOf,
  type PushShape,
  pullScope,
  pushScope,
  type RegistryClient,
  uploadLocation,
} from "../support/registry-client.ts";
import { errorOf, type Registry, startRegistry } from "./harness.ts";
import { UploadSteps } from "./upload-steps.ts";

const repository = "admin/push";
let registry: Registry;
let admin: RegistryClient;
let steps: UploadSteps;

beforeAll(async () => {
  registry = await startRegistry();
  admin = registry.admin;
  steps = new UploadSteps(admin, repository);
}, 60_000);
afterAll(() => registry.stop());

/** Fresh content for each test: bytes that were pushed before would not be stored again. */
let seed = 1000;
function content(size: number): { bytes: Uint8Array<ArrayBuffer>; digest: string; sha512: string } {
  const bytes = fixedBytes(size, seed++);
  return { bytes, digest: digestOf(bytes), sha512: digestOf(bytes, "sha512") };
}

async function expectPulled(digest: string, bytes: Uint8Array, from = repository): Promise<void> {
  const response = await admin.pullBlob(from, digest);
  expect(response.status).toBe(200);
  expect(response.headers.get("docker-content-digest")).toBe(digest);
  expect(digestOf(await response.bytes())).toBe(digestOf(bytes));
}

function expectCreated(response: Response, digest: string): void {
  expect(response.status).toBe(201);
  expect(response.headers.get("location")).toBe(`/v2/${repository}/blobs/${digest}`);
  expect(response.headers.get("docker-content-digest")).toBe(digest);
}

describe("shapes of a push", () => {
  for (const shape of ["post-put", "patch", "chunked", "single-post"] satisfies PushShape[]) {
    test(`${shape}: 201 with Location and digest, and the same bytes come back`, async () => {
      const { bytes, digest } = content(200_001);
      expectCreated(await admin.pushBlob(repository, bytes, { shape, chunkBytes: 64 * 1024 }), digest);
      await expectPulled(digest, bytes);
      expect(await registry.uploads()).toEqual([]);
    });

    test(`${shape} with sha512, not announced before`, async () => {
      const { bytes, sha512 } = content(70_000);
      expectCreated(await admin.pushBlob(repository, bytes, { shape, digest: sha512, chunkBytes: 20_000 }), sha512);
      await expectPulled(sha512, bytes);
    });

    test(`${shape} of no bytes`, async () => {
      const digest = digestOf(new Uint8Array());
      expectCreated(await admin.pushBlob(repository, new Uint8Array(), { shape }), digest);
      await expectPulled(digest, new Uint8Array());
      const sha512 = digestOf(new Uint8Array(), "sha512");
      expectCreated(await admin.pushBlob(repository, new Uint8Array(), { shape, digest: sha512 }), sha512);
    });

    test(`${shape} with the digest of other bytes: 400, and neither digest is there afterwards`, async () => {
      const { bytes, digest } = content(3000);
      const response = await admin.pushBlob(repository, bytes, { shape, digest: absentDigest });
      expect(response.status).toBe(400);
      expect(await errorOf(response)).toMatchObject({
        code: "DIGEST_INVALID",
        detail: { digest: absentDigest, actual: digest },
      });
      expect((await admin.pullBlob(repository, absentDigest)).status).toBe(404);
      expect((await admin.pullBlob(repository, digest)).status).toBe(404);
      expect(await registry.uploads()).toEqual([]);
    });
  }

  test("POST answers 202 with a Location, an empty Range and the session's id", async () => {
    const response = await steps.post();
    expect(response.status).toBe(202);
    const id = response.headers.get("docker-upload-uuid") ?? "";
    expect(id).toMatch(/^[0-9a-f-]{36}$/);
    expect(response.headers.get("location")).toBe(`/v2/${repository}/blobs/uploads/${id}`);
    expect(response.headers.get("range")).toBe("0-0");
    expect((await steps.cancel(response.headers.get("location") ?? "")).status).toBe(204);
  });

  test("the trailing slash of uploads/ may be left out", async () => {
    const response = await steps.send(`/v2/${repository}/blobs/uploads`, "POST");
    expect(response.status).toBe(202);
    await steps.cancel(response.headers.get("location") ?? "");
  });

  test("digest-algorithm=sha512 lets the hash run along; sha256 is still taken at the end", async () => {
    const { bytes, digest, sha512 } = content(50_000);
    const announced = await steps.start("?digest-algorithm=sha512");
    await steps.patch(announced, bytes.slice(0, 30_000));
    await steps.patch(announced, bytes.slice(30_000));
    expectCreated(await steps.put(announced, sha512), sha512);
    await expectPulled(sha512, bytes);
    const other = await steps.start("?digest-algorithm=sha512");
    await steps.patch(other, bytes);
    expectCreated(await steps.put(other, digest), digest);
    await expectPulled(digest, bytes);
  });

  test("an unknown digest-algorithm is refused and opens nothing", async () => {
    for (const algorithm of ["md5", "SHA256", "", "sha256%00"]) {
      const response = await steps.post(`?digest-algorithm=${algorithm}`);
      expect(response.status, algorithm).toBe(400);
      expect((await errorOf(response)).code).toBe("DIGEST_INVALID");
    }
    expect(await registry.uploads()).toEqual([]);
  });
});

describe("chunks", () => {
  test("in order: each answer says how much is stored, and so does the status", async () => {
    const { bytes, digest } = content(3000);
    const location = await steps.start();
    for (const [start, end] of [
      [0, 999],
      [1000, 1999],
    ] as const) {
      const response = await steps.patch(location, bytes.slice(start, end + 1), `${start}-${end}`);
      expect(response.status).toBe(202);
      expect(response.headers.get("range")).toBe(`0-${end}`);
      expect(response.headers.get("location")).toBe(new URL(location).pathname);
      const status = await steps.status(location);
      expect(status.status).toBe(204);
      expect(status.headers.get("range")).toBe(`0-${end}`);
      expect(status.headers.get("location")).toBe(new URL(location).pathname);
      expect(status.headers.get("docker-upload-uuid")).toBe(location.split("/").at(-1) ?? "");
    }
    expectCreated(await steps.put(location, digest, bytes.slice(2000), "2000-2999"), digest);
    await expectPulled(digest, bytes);
  });

  test("general clients' spelling of Content-Range is understood", async () => {
    const { bytes, digest } = content(20);
    const location = await steps.start();
    expect((await steps.patch(location, bytes.slice(0, 10), "bytes 0-9/20")).status).toBe(202);
    expectCreated(await steps.put(location, digest, bytes.slice(10), "bytes=10-19/*"), digest);
  });

  test("out of order: 416 with the Range that is stored, and the session goes on", async () => {
    const { bytes, digest } = content(3000);
    const location = await steps.start();
    const early = await steps.patch(location, bytes.slice(1000, 2000), "1000-1999");
    expect(early.status).toBe(416);
    expect(early.headers.get("range")).toBe("0-0");
    expect((await steps.patch(location, bytes.slice(0, 1000), "0-999")).status).toBe(202);
    for (const wrong of ["0-999", "999-1998", "1001-2000", "2000-2999"]) {
      const response = await steps.patch(location, bytes.slice(0, 1000), wrong);
      expect(response.status, wrong).toBe(416);
      expect(response.headers.get("range")).toBe("0-999");
      expect(await errorOf(response)).toMatchObject({ code: "BLOB_UPLOAD_INVALID", detail: { offset: 1000 } });
    }
    const last = await steps.put(location, digest, bytes.slice(2000), "2000-2999");
    expect(last.status).toBe(416);
    expect((await steps.status(location)).headers.get("range")).toBe("0-999");
    expect((await steps.patch(location, bytes.slice(1000, 2000), "1000-1999")).status).toBe(202);
    expectCreated(await steps.put(location, digest, bytes.slice(2000), "2000-2999"), digest);
    await expectPulled(digest, bytes);
  });

  test("a Content-Range that is none, or of another length than the body, changes nothing", async () => {
    const { bytes, digest } = content(100);
    const location = await steps.start();
    for (const wrong of ["0", "a-b", "9-0", "-5", `0-${"9".repeat(30)}`, "0-98", "0-100", "0-99,0-99"]) {
      const response = await steps.patch(location, bytes, wrong);
      expect(response.status, wrong).toBe(416);
      await response.body?.cancel();
    }
    expect((await steps.status(location)).headers.get("range")).toBe("0-0");
    expectCreated(await steps.put(location, digest, bytes), digest);
  });

  test("chunks without Content-Range are appended; an empty one changes nothing", async () => {
    const { bytes, digest } = content(2500);
    const location = await steps.start();
    expect((await steps.patch(location, bytes.slice(0, 1))).headers.get("range")).toBe("0-0");
    expect((await steps.patch(location, bytes.slice(1, 1500))).headers.get("range")).toBe("0-1499");
    expect((await steps.patch(location, new Uint8Array())).headers.get("range")).toBe("0-1499");
    expectCreated(await steps.put(location, digest, bytes.slice(1500)), digest);
    await expectPulled(digest, bytes);
  });

  test("a body without Content-Length is taken to its end", async () => {
    const { bytes, digest } = content(300_000);
    const location = await steps.start();
    await admin.authorize(pushScope(repository));
    const response = await admin.request(location, {
      method: "PATCH",
      scope: pushScope(repository),
      body: new ReadableStream({
        async start(controller) {
          for (let start = 0; start < bytes.length; start += 50_000) {
            controller.enqueue(bytes.slice(start, start + 50_000));
            await Bun.sleep(1);
          }
          controller.close();
        },
      }),
    });
    expect(response.status).toBe(202);
    expect(response.headers.get("range")).toBe("0-299999");
    expectCreated(await steps.put(location, digest), digest);
    await expectPulled(digest, bytes);
  });

  test("PUT without a digest is refused and the session can still be ended rightly", async () => {
    const { bytes, digest } = content(500);
    const location = await steps.start();
    await steps.patch(location, bytes);
    const response = await steps.send(location, "PUT");
    expect(response.status).toBe(400);
    expect((await errorOf(response)).code).toBe("DIGEST_INVALID");
    expectCreated(await steps.put(location, digest), digest);
  });

  test("PUT with a digest that is none is refused and the session stays", async () => {
    const { bytes, digest } = content(500);
    const location = await steps.start();
    await steps.patch(location, bytes);
    for (const wrong of ["sha256:abc", digest.toUpperCase(), "md5:d41d8cd98f00b204e9800998ecf8427e", ""]) {
      const response = await steps.put(location, wrong);
      expect(response.status, wrong).toBe(400);
      expect((await errorOf(response)).code).toBe("DIGEST_INVALID");
    }
    expectCreated(await steps.put(location, digest), digest);
  });

  test("a finished session is gone", async () => {
    const { bytes, digest } = content(500);
    const location = await steps.start();
    expectCreated(await steps.put(location, digest, bytes), digest);
    for (const response of [
      await steps.status(location),
      await steps.patch(location, bytes),
      await steps.put(location, digest, bytes),
      await steps.cancel(location),
    ]) {
      expect(response.status).toBe(404);
      expect((await errorOf(response)).code).toBe("BLOB_UPLOAD_UNKNOWN");
    }
  });

  test("cancel drops the session and its bytes", async () => {
    const { bytes, digest } = content(5000);
    const location = await steps.start();
    await steps.patch(location, bytes);
    expect(await registry.uploads()).toHaveLength(1);
    expect((await steps.cancel(location)).status).toBe(204);
    expect(await registry.uploads()).toEqual([]);
    expect((await steps.put(location, digest)).status).toBe(404);
    expect((await steps.cancel(location)).status).toBe(404);
    expect((await admin.pullBlob(repository, digest)).status).toBe(404);
  });
});

describe("resumption", () => {
  for (const [how, interrupt] of [
    ["a restart", () => registry.berth.restart()],
    [
      "SIGKILL",
      async () => {
        await registry.berth.kill();
        await registry.berth.restart();
      },
    ],
  ] as const) {
    test(`an upload goes on after ${how} where its last answer left it`, async () => {
      const { bytes, digest, sha512 } = content(90_000);
      const first = await steps.start();
      const second = await steps.start("?digest-algorithm=sha512");
      expect((await steps.patch(first, bytes.slice(0, 40_000), "0-39999")).status).toBe(202);
      expect((await steps.patch(second, bytes.slice(0, 1))).status).toBe(202);
      await interrupt();
      const status = await steps.status(first);
      expect(status.status).toBe(204);
      expect(status.headers.get("range")).toBe("0-39999");
      expect((await steps.patch(first, bytes.slice(0, 10), "0-9")).status).toBe(416);
      expect((await steps.patch(first, bytes.slice(40_000, 80_000), "40000-79999")).status).toBe(202);
      expectCreated(await steps.put(first, digest, bytes.slice(80_000)), digest);
      expectCreated(await steps.put(second, sha512, bytes.slice(1)), sha512);
      await expectPulled(digest, bytes);
      await expectPulled(sha512, bytes);
    }, 60_000);
  }
});

describe("several at once", () => {
  test("pushes of one digest at once all succeed and leave nothing behind", async () => {
    const { bytes, digest } = content(600_000);
    const shapes: PushShape[] = ["post-put", "patch", "chunked", "single-post"];
    const answers = await Promise.all(
      [...shapes, ...shapes].map((shape, index) =>
        admin.pushBlob(index % 2 ? repository : "admin/push2", bytes, { shape }),
      ),
    );
    for (const response of answers) expect(response.status).toBe(201);
    await expectPulled(digest, bytes);
    await expectPulled(digest, bytes, "admin/push2");
    expect(await registry.uploads()).toEqual([]);
  }, 30_000);

  test("first pushes into one new repository at once all succeed", async () => {
    const names = Array.from({ length: 6 }, (_, index) => content(100 + index));
    const answers = await Promise.all(names.map(({ bytes }) => admin.pushBlob("admin/born-at-once", bytes)));
    expect(answers.map((response) => response.status)).toEqual(names.map(() => 201));
  });

  test("two PATCHes of one session at once: one is taken whole, the other is told to look again", async () => {
    const { bytes } = content(400_000);
    const half = bytes.slice(0, 200_000);
    for (let round = 0; round < 5; round++) {
      const location = await steps.start();
      const answers = await Promise.all([steps.patch(location, half), steps.patch(location, half)]);
      const statuses = answers.map((response) => response.status).sort();
      // One after the other is as good as one against the other: both are whole chunks in order.
      expect([
        [202, 202],
        [202, 416],
      ]).toContainEqual(statuses);
      const stored = statuses[1] === 202 ? [half, half] : [half];
      const whole = Buffer.concat(stored);
      expect((await steps.status(location)).headers.get("range")).toBe(`0-${whole.length - 1}`);
      expect((await steps.put(location, digestOf(whole))).status).toBe(201);
    }
  }, 30_000);

  test("two chunks for the same place at once: exactly one is stored", async () => {
    const { bytes } = content(300_000);
    const other = content(300_000).bytes;
    const location = await steps.start();
    const answers = await Promise.all([
      steps.patch(location, bytes, "0-299999"),
      steps.patch(location, other, "0-299999"),
    ]);
    expect(answers.map((response) => response.status).sort()).toEqual([202, 416]);
    const stored = answers[0]?.status === 202 ? bytes : other;
    expect((await steps.put(location, digestOf(stored))).status).toBe(201);
  });

  test("PUT and cancel at once: afterwards the blob is there or it is not, and the session is over", async () => {
    // In a bucket the chunks that lost a race above wait for the sweep.
    const before = await registry.uploads();
    for (let round = 0; round < 5; round++) {
      const { bytes, digest } = content(100_000);
      const location = await steps.start();
      await steps.patch(location, bytes);
      const [put, cancel] = await Promise.all([steps.put(location, digest), steps.cancel(location)]);
      expect([201, 404, 416]).toContain(put.status);
      expect([204, 404, 416]).toContain(cancel.status);
      expect(put.status === 201 || cancel.status === 204).toBe(true);
      expect((await admin.pullBlob(repository, digest)).status).toBe(put.status === 201 ? 200 : 404);
      expect((await steps.status(location)).status).toBe(404);
    }
    expect(await registry.uploads()).toEqual(before);
  });
});

describe("mounts", () => {
  const source = "admin/mount-source";

  /** A mount with a token for both ends, as clients ask for one. */
  const mount = (client: RegistryClient, target: string, query: string, from: string) =>
    client.request(`/v2/${target}/blobs/uploads/${query}`, {
      method: "POST",
      scope: `${pushScope(target)} ${pullScope(from)}`,
    });

  test("with from: 201 at once, and the blob is in the new repository", async () => {
    const { bytes, digest } = content(1000);
    await admin.pushBlob(source, bytes);
    const response = await mount(admin, "admin/mount-target", `?mount=${digest}&from=${source}`, source);
    expect(response.status).toBe(201);
    expect(response.headers.get("location")).toBe(`/v2/admin/mount-target/blobs/${digest}`);
    expect(response.headers.get("docker-content-digest")).toBe(digest);
    await expectPulled(digest, bytes, "admin/mount-target");
  });

  test("without from: the registry finds a repository that the caller may read", async () => {
    const { bytes, digest } = content(1000);
    await admin.pushBlob(source, bytes);
    const response = await mount(admin, "admin/mount-auto", `?mount=${digest}`, source);
    expect(response.status).toBe(201);
    await expectPulled(digest, bytes, "admin/mount-auto");
  });

  test("what cannot be mounted is an upload that can be finished", async () => {
    const { bytes, digest } = content(1000);
    for (const query of [
      `?mount=${digest}&from=${source}`,
      `?mount=${digest}&from=admin/does-not-exist`,
      `?mount=${digest}&from=nobody/nothing`,
      `?mount=${digest}&from=..%2F..%2Fetc`,
      `?mount=${digest}&from=%00`,
      `?mount=${digest}`,
      `?mount=sha256:short&from=${source}`,
      "?mount=&from=",
    ]) {
      const response = await mount(admin, repository, query, source);
      expect(response.status, query).toBe(202);
      expect(response.headers.get("docker-content-digest")).toBeNull();
      await steps.cancel(response.headers.get("location") ?? "");
    }
    const location = uploadLocation(await mount(admin, repository, `?mount=${digest}&from=${source}`, source));
    expectCreated(await steps.put(location, digest, bytes), digest);
  });

  test("a source the caller may not read answers exactly as one that does not exist", async () => {
    const { bytes, digest } = content(1000);
    await admin.pushBlob("admin/mount-secret", bytes);
    const stranger = await registry.user("stranger");
    const target = new UploadSteps(stranger, "stranger/mine");
    const shapeOf = (response: Response) => ({
      status: response.status,
      headers: [...response.headers.keys()].sort(),
    });
    const answers: Response[] = [];
    for (const query of [
      `?mount=${digest}&from=admin/mount-secret`,
      `?mount=${absentDigest}&from=admin/mount-secret`,
      `?mount=${digest}&from=admin/absent`,
      `?mount=${digest}`,
      `?mount=${absentDigest}`,
    ]) {
      // Without and with a token that asked for the source.
      answers.push(await target.post(query), await mount(stranger, "stranger/mine", query, "admin/mount-secret"));
    }
    for (const response of answers) expect(shapeOf(response)).toEqual(shapeOf(answers[0] as Response));
    expect(answers[0]?.status).toBe(202);
    expect((await stranger.pullBlob("stranger/mine", digest)).status).toBe(404);
  });

  test("a public source may be mounted by anybody, and by a reader a private one", async () => {
    const { bytes, digest } = content(1000);
    await admin.pushBlob("admin/mount-open", bytes);
    const reader = await registry.user("mounter");
    await registry.visibility("admin/mount-open", "public");
    const open = await mount(reader, "mounter/a", `?mount=${digest}&from=admin/mount-open`, "admin/mount-open");
    expect(open.status).toBe(201);
    const secret = content(1000);
    await admin.pushBlob("admin/mount-shared", secret.bytes);
    await registry.grant("mounter", "admin/mount-shared", "read");
    const shared = await mount(
      reader,
      "mounter/a",
      `?mount=${secret.digest}&from=admin/mount-shared`,
      "admin/mount-shared",
    );
    expect(shared.status).toBe(201);
  });

  test("a token without the source's scope is told which one to ask for, when the account may read it", async () => {
    const { bytes, digest } = content(1000);
    await admin.pushBlob(source, bytes);
    const token = await admin.authorize(pushScope(repository));
    const response = await fetch(
      `${registry.berth.url}/v2/${repository}/blobs/uploads/?mount=${digest}&from=${source}`,
      { method: "POST", headers: { authorization: token ?? "" } },
    );
    expect(response.status).toBe(401);
    expect(response.headers.get("www-authenticate")).toContain(
      `scope="repository:${repository}:pull,push repository:${source}:pull"`,
    );
  });
});

describe("manifests", () => {
  test("several tags in one push are all set and named in OCI-Tag", async () => {
    const content = image("many-tags");
    for (const blob of content.blobs) await admin.pushBlob(repository, blob);
    const response = await admin.pushManifest(repository, `${content.digest}?tag=a&tag=b&tag=a`, content.manifest);
    expect(response.status).toBe(201);
    expect(response.headers.get("location")).toBe(`/v2/${repository}/manifests/${content.digest}`);
    expect(response.headers.get("docker-content-digest")).toBe(content.digest);
    const named = (response.headers.get("oci-tag") ?? "").split(", ");
    expect([...new Set(named)].sort()).toEqual(["a", "b"]);
    for (const tag of ["a", "b"]) {
      const pulled = await admin.pullManifest(repository, tag);
      expect(pulled.headers.get("docker-content-digest")).toBe(content.digest);
    }
  });

  test("a wrong tag among several sets none of them", async () => {
    const content = image("half-tagged");
    for (const blob of content.blobs) await admin.pushBlob(repository, blob);
    const response = await admin.pushManifest(repository, `${content.digest}?tag=good&tag=-bad`, content.manifest);
    expect(response.status).toBe(400);
    expect((await errorOf(response)).code).toBe("TAG_INVALID");
    expect((await admin.pullManifest(repository, "good")).status).toBe(404);
    expect((await admin.pullManifest(repository, content.digest)).status).toBe(404);
    const tooMany = Array.from({ length: 101 }, (_, index) => `tag=t${index}`).join("&");
    expect((await admin.pushManifest(repository, `${content.digest}?${tooMany}`, content.manifest)).status).toBe(400);
  });

  test("by digest, also sha512: kept without a tag, and by that digest alone", async () => {
    const content = image("by-digest");
    await publish(admin, repository, content);
    expect((await admin.pullManifest(repository, content.digest)).status).toBe(200);
    const sha512 = digestOf(content.manifest, "sha512");
    const response = await admin.pushManifest(repository, sha512, content.manifest);
    expect(response.status).toBe(201);
    expect(response.headers.get("docker-content-digest")).toBe(sha512);
    const pulled = await admin.pullManifest(repository, sha512);
    expect(pulled.headers.get("docker-content-digest")).toBe(sha512);
    expect(await pulled.bytes()).toEqual(content.manifest);
  });

  test("a digest that is not the body's is refused", async () => {
    const content = image("wrong-digest");
    for (const blob of content.blobs) await admin.pushBlob(repository, blob);
    for (const digest of [absentDigest, `sha512:${"a".repeat(128)}`]) {
      const response = await admin.pushManifest(repository, digest, content.manifest);
      expect(response.status).toBe(400);
      expect(await errorOf(response)).toMatchObject({ code: "DIGEST_INVALID", detail: { digest } });
      expect((await admin.pullManifest(repository, digest)).status).toBe(404);
    }
  });

  test("the tag moves with the last push; the earlier manifest stays by its digest", async () => {
    const [old, young] = [image("moves-1"), image("moves-2")];
    await publish(admin, repository, old, "moving");
    expect((await admin.pullManifest(repository, "moving")).headers.get("docker-content-digest")).toBe(old.digest);
    await publish(admin, repository, young, "moving");
    expect((await admin.pullManifest(repository, "moving")).headers.get("docker-content-digest")).toBe(young.digest);
    expect((await admin.pullManifest(repository, old.digest)).status).toBe(200);
  });

  test("pushes of one tag at once: all are taken and the tag names one of them", async () => {
    const images = Array.from({ length: 6 }, (_, index) => image(`race-${index}`));
    for (const each of images) for (const blob of each.blobs) await admin.pushBlob(repository, blob);
    const answers = await Promise.all(images.map((each) => admin.pushManifest(repository, "race", each.manifest)));
    expect(answers.map((response) => response.status)).toEqual(images.map(() => 201));
    const pulled = await admin.pullManifest(repository, "race");
    expect(images.map((each) => each.digest)).toContain(pulled.headers.get("docker-content-digest") ?? "");
  });
});
