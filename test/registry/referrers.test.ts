/** Referrers: by subject field and by fallback tag, filtered and paged. Spec: distribution-spec "Listing Referrers". */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { absentDigest, artifact, type Image, image, index, publish } from "../support/content.ts";
import { type Descriptor, mediaTypes, type RegistryClient } from "../support/registry-client.ts";
import { errorOf, type Registry, startRegistry } from "./harness.ts";

const repository = "admin/referrers";
const signature = "application/vnd.example.signature";
const sbom = "application/vnd.example.sbom";
const subject = image("subject");
let registry: Registry;
let admin: RegistryClient;

beforeAll(async () => {
  registry = await startRegistry();
  admin = registry.admin;
  await publish(admin, repository, subject, "v1");
}, 60_000);
afterAll(() => registry.stop());

interface Answer {
  readonly status: number;
  readonly manifests: Descriptor[];
  readonly link: string | null;
  readonly filters: string | null;
}

/** One answer, whose frame is checked: an index of the right type. */
async function list(digest: string, query = "", client = admin, name = repository): Promise<Answer> {
  const response = await client.listReferrers(name, digest, query);
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe(mediaTypes.index);
  const body = (await response.json()) as { schemaVersion: number; mediaType: string; manifests: Descriptor[] };
  expect({ schemaVersion: body.schemaVersion, mediaType: body.mediaType }).toEqual({
    schemaVersion: 2,
    mediaType: mediaTypes.index,
  });
  return {
    status: response.status,
    manifests: body.manifests,
    link: response.headers.get("link"),
    filters: response.headers.get("oci-filters-applied"),
  };
}

/** Follows the links to the end. */
async function listAll(digest: string, query: string): Promise<Descriptor[]> {
  const found: Descriptor[] = [];
  let page = await list(digest, query);
  for (let pages = 0; pages < 100; pages++) {
    found.push(...page.manifests);
    if (page.link === null) return found;
    const next = /^<([^>]+)>; rel="next"$/.exec(page.link)?.[1] ?? "";
    page = await list(digest, next.slice(next.indexOf("?")));
  }
  throw new Error("the links have no end");
}

const digests = (descriptors: readonly { digest: string }[]) => descriptors.map(({ digest }) => digest).sort();

/** A subject of its own with referrers named by these types. */
async function refer(name: string, types: readonly string[]): Promise<{ subject: Image; referrers: Image[] }> {
  const to = image(name);
  await publish(admin, repository, to);
  const referrers = types.map((type, position) =>
    artifact(type, { subject: to.descriptor, annotations: { position: String(position), name } }),
  );
  for (const each of referrers) await publish(admin, repository, each);
  return { subject: to, referrers };
}

describe("listing", () => {
  test("a push with a subject is answered with OCI-Subject, one without is not", async () => {
    const signed = artifact(signature, { subject: subject.descriptor, annotations: { for: "answer" } });
    await publish(admin, repository, signed);
    const response = await admin.pushManifest(repository, "signed", signed.manifest);
    expect(response.headers.get("oci-subject")).toBe(subject.digest);
    const plain = await admin.pushManifest(repository, "plain", subject.manifest);
    expect(plain.headers.get("oci-subject")).toBeNull();
  });

  test("gives type, artifact type, size and annotations of each, and no tag is needed", async () => {
    const { subject: to, referrers } = await refer("described", [signature]);
    const page = await list(to.digest);
    const [first] = referrers;
    expect(page.manifests).toEqual([
      {
        mediaType: mediaTypes.manifest,
        digest: first?.digest ?? "",
        size: first?.manifest.length ?? 0,
        artifactType: signature,
        annotations: { position: "0", name: "described" },
      },
    ]);
    expect(page.filters).toBeNull();
    expect(page.link).toBeNull();
  });

  test("an image is listed by its config's type, an index by its own artifactType alone", async () => {
    const to = image("kinds");
    await publish(admin, repository, to);
    const byConfig = image("kinds-image", { fields: { subject: to.descriptor } });
    const byIndex = index([], { subject: to.descriptor, artifactType: sbom });
    const bare = index([], { subject: to.descriptor });
    for (const each of [byConfig, byIndex, bare]) await publish(admin, repository, each);
    const { manifests } = await list(to.digest);
    const typeOf = (digest: string) => manifests.find((found) => found.digest === digest)?.artifactType;
    expect(digests(manifests)).toEqual(digests([byConfig, byIndex, bare]));
    expect(typeOf(byConfig.digest)).toBe(mediaTypes.config);
    expect(typeOf(byIndex.digest)).toBe(sbom);
    expect(typeOf(bare.digest)).toBeUndefined();
  });

  test("a filter leaves only its type and says so", async () => {
    const { subject: to, referrers } = await refer("filtered", [signature, sbom, signature]);
    const page = await list(to.digest, `?artifactType=${encodeURIComponent(signature)}`);
    expect(digests(page.manifests)).toEqual(digests(referrers.filter((_, position) => position !== 1)));
    expect(page.filters).toBe("artifactType");
    const none = await list(to.digest, "?artifactType=application/vnd.none");
    expect(none.manifests).toEqual([]);
    expect(none.filters).toBe("artifactType");
  });

  test("a filter of odd bytes finds nothing and breaks nothing", async () => {
    for (const value of ["%00", "a%00b", "%FF", "'%20or%201=1--", "%F0%9F%90%99", "a".repeat(3000)]) {
      expect((await list(subject.digest, `?artifactType=${value}`)).manifests, value).toEqual([]);
    }
  });

  test("pages of n follow their links to the end, each referrer once", async () => {
    const types = Array.from({ length: 7 }, (_, position) => (position % 2 ? sbom : signature));
    const { subject: to, referrers } = await refer("paged", types);
    for (const n of [1, 2, 3, 7, 100]) {
      const found = await listAll(to.digest, `?n=${n}`);
      expect(digests(found), `n=${n}`).toEqual(digests(referrers));
      expect(new Set(digests(found)).size).toBe(7);
    }
    const filter = encodeURIComponent(sbom);
    const found = await listAll(to.digest, `?artifactType=${filter}&n=1`);
    expect(digests(found)).toEqual(digests(referrers.filter((_, position) => position % 2)));
    const page = await list(to.digest, "?n=2");
    expect(page.manifests).toHaveLength(2);
    expect(page.link).toContain(`/v2/${repository}/referrers/${to.digest}?`);
  });

  test("a subject or repository that is not there has no referrers, and that is no error", async () => {
    expect((await list(absentDigest)).manifests).toEqual([]);
    expect((await list(`sha512:${"a".repeat(128)}`)).manifests).toEqual([]);
    expect((await list(absentDigest, "", admin, "admin/no-such-repository")).manifests).toEqual([]);
    const filtered = await list(absentDigest, "?artifactType=a/b", admin, "admin/no-such-repository");
    expect(filtered.filters).toBe("artifactType");
  });

  test("referrers of a subject that comes later, or never, are found", async () => {
    const late = image("late");
    const early = artifact(signature, { subject: late.descriptor });
    await publish(admin, repository, early);
    expect(digests((await list(late.digest)).manifests)).toEqual([early.digest]);
    await publish(admin, repository, late);
    expect(digests((await list(late.digest)).manifests)).toEqual([early.digest]);
  });

  test("a wrong digest is refused, also for a repository that is not there", async () => {
    for (const name of [repository, "admin/no-such-repository"]) {
      const response = await admin.listReferrers(name, "sha256:abc");
      expect(response.status).toBe(400);
      expect((await errorOf(response)).code).toBe("DIGEST_INVALID");
    }
  });

  test("referrers of one repository are not those of another", async () => {
    const { subject: to } = await refer("apart", [signature]);
    await publish(admin, "admin/referrers-other", to);
    expect((await list(to.digest, "", admin, "admin/referrers-other")).manifests).toEqual([]);
  });

  test("who may not read the repository learns nothing of its referrers", async () => {
    const stranger = await registry.user("referrer-stranger");
    const hidden = await stranger.listReferrers(repository, subject.digest);
    const absent = await stranger.listReferrers("admin/no-such-repository", subject.digest);
    expect(hidden.status).toBe(401);
    expect(absent.status).toBe(401);
    await hidden.body?.cancel();
    await absent.body?.cancel();
  });

  test("a deleted referrer is gone at once; pushed again it is back", async () => {
    const { subject: to, referrers } = await refer("deleted", [signature, sbom]);
    const [first, second] = referrers as [Image, Image];
    const scope = `repository:${repository}:pull,push,delete`;
    const path = `/v2/${repository}/manifests/${first.digest}`;
    expect((await admin.request(path, { method: "DELETE", scope })).status).toBe(202);
    expect(digests((await list(to.digest)).manifests)).toEqual([second.digest]);
    await publish(admin, repository, first);
    expect(digests((await list(to.digest)).manifests)).toEqual(digests(referrers));
  });
});

describe("fallback tags of old clients", () => {
  const tagOf = (digest: string) => digest.replace(":", "-");

  test("what only the fallback index lists is found beside the others, each once", async () => {
    const { subject: to, referrers } = await refer("fallback", [signature]);
    // Pushed as an old client does: no subject field, listed by hand.
    const old = artifact(sbom, { annotations: { by: "old client" } });
    await publish(admin, repository, old);
    const listed = [
      { ...old.descriptor, artifactType: sbom, annotations: { by: "old client" } },
      { ...(referrers[0] as Image).descriptor, artifactType: signature },
      { ...old.descriptor, artifactType: sbom },
      { ...old.descriptor, digest: absentDigest, artifactType: sbom },
    ];
    await publish(admin, repository, index(listed), tagOf(to.digest));
    const { manifests } = await list(to.digest);
    expect(digests(manifests)).toEqual(digests([...referrers, old]));
    expect(manifests.find(({ digest }) => digest === old.digest)).toEqual(listed[0] as Descriptor);
    const filtered = await list(to.digest, `?artifactType=${sbom}`);
    expect(digests(filtered.manifests)).toEqual([old.digest]);
    expect(digests(await listAll(to.digest, "?n=1"))).toEqual(digests([...referrers, old]));
  });

  test("a fallback tag on something else than an index lists nothing", async () => {
    const { subject: to, referrers } = await refer("fallback-image", [signature]);
    await publish(admin, repository, image("not-an-index"), tagOf(to.digest));
    expect(digests((await list(to.digest)).manifests)).toEqual(digests(referrers));
  });

  test("what it lists is gone with its manifest or with the tag", async () => {
    const { subject: to } = await refer("fallback-gone", []);
    const [one, two] = [artifact(sbom, { annotations: { n: "1" } }), artifact(sbom, { annotations: { n: "2" } })];
    for (const each of [one, two]) await publish(admin, repository, each);
    await publish(admin, repository, index([one.descriptor, two.descriptor]), tagOf(to.digest));
    expect(digests((await list(to.digest)).manifests)).toEqual(digests([one, two]));
    const scope = `repository:${repository}:pull,push,delete`;
    const remove = (reference: string) =>
      admin.request(`/v2/${repository}/manifests/${reference}`, { method: "DELETE", scope });
    expect((await remove(one.digest)).status).toBe(202);
    expect(digests((await list(to.digest)).manifests)).toEqual([two.digest]);
    expect((await remove(tagOf(to.digest))).status).toBe(202);
    expect((await list(to.digest)).manifests).toEqual([]);
  });
});

test("FEATURE_REFERRERS_API false: 404, as from a registry that has none, and no OCI-Subject", async () => {
  const without = await startRegistry({ FEATURE_REFERRERS_API: false });
  try {
    await publish(without.admin, repository, subject, "v1");
    const signed = artifact(signature, { subject: subject.descriptor });
    await publish(without.admin, repository, signed);
    const pushed = await without.admin.pushManifest(repository, "signed", signed.manifest);
    expect(pushed.headers.get("oci-subject")).toBeNull();
    const response = await without.admin.listReferrers(repository, subject.digest);
    expect(response.status).toBe(404);
    await response.body?.cancel();
  } finally {
    await without.stop();
  }
}, 30_000);
