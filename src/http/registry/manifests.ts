/** /v2/<name>/manifests/<reference>: pull, push and delete. Spec: distribution-spec "Pull", "Push", "Content Management". */

import { deleteManifest } from "../../domain/manifest/delete-manifest.ts";
import { putManifest } from "../../domain/manifest/put-manifest.ts";
import type { StoredManifest } from "../../domain/manifest/queries.ts";
import { getManifestAsOf, parseAsOf } from "../../domain/tag/as-of.ts";
import { hadTag } from "../../domain/tag/queries.ts";
import { deleteTag } from "../../domain/tag/tag.ts";
import { RegistryError } from "../../errors.ts";
import { MANIFEST_SIZE_BYTES_MAX } from "../../oci/manifest.ts";
import { formatReference, parseReference, parseTag, type Reference } from "../../oci/reference.ts";
import { readBody } from "./body.ts";
import { matchesEtag } from "./conditions.ts";
import type { MethodTable, RepositoryContext } from "./routes.ts";

type Context = RepositoryContext<"manifest">;

/** Tags in one push: a release has a handful of names, each is a row in the transaction. */
const TAGS_MAX = 100;

export const manifestRoutes: MethodTable<"manifest"> = {
  GET: { needs: "pull", handle: getManifest },
  PUT: { needs: "creates", handle: putManifestRoute },
  DELETE: { needs: "delete", handle: deleteManifestRoute },
};

async function getManifest(context: Context): Promise<Response> {
  const { app, request, route, repository, query } = context;
  const reference = parseReference(route.reference);
  const asOf = query.get("asof");
  if (asOf !== null) return getManifestThen(context, reference, asOf);
  const manifest = await app.lookup.manifest(repository.id, reference);
  const ref = reference.kind === "tag" ? "tag" : "manifest";
  const isGet = request.method === "GET";
  if (!manifest) {
    if (isGet) app.metrics.countPull(["v2", ref, "404"]);
    if (reference.kind === "tag" && (await hadTag(app.db, repository.id, reference.tag))) {
      throw new RegistryError("tag_expired", {
        message: `Tag ${reference.tag} was deleted or has expired. To pull, revive via time machine`,
        detail: { tag: reference.tag },
      });
    }
    throw new RegistryError("manifest_unknown", { detail: { reference: formatReference(reference) } });
  }
  return answerPull(context, reference, manifest);
}

/** `?asof=`: what the reference was at an instant. Counted and logged as a pull by digest, for it is not what the tag is. */
async function getManifestThen(context: Context, reference: Reference, asOf: string): Promise<Response> {
  const { app, request, repository } = context;
  try {
    const asOfMs = parseAsOf(asOf, app.clock.nowMs());
    const manifest = await getManifestAsOf(app, repository, reference, asOfMs);
    return answerPull(context, { kind: "digest", digest: manifest.digest }, manifest);
  } catch (error) {
    if (request.method === "GET" && error instanceof RegistryError && error.code === "manifest_unknown") {
      app.metrics.countPull(["v2", "manifest", "404"]);
    }
    throw error;
  }
}

function answerPull(context: Context, reference: Reference, manifest: StoredManifest): Response {
  const { app, caller, request, repository, origin } = context;
  const isGet = request.method === "GET";
  const ref = reference.kind === "tag" ? "tag" : "manifest";
  if (isGet) app.metrics.countPull(["v2", ref, "200"]);
  const etag = `"${manifest.digest}"`;
  const headers = {
    "Content-Type": manifest.mediaType,
    "Content-Length": String(manifest.content.length),
    "Docker-Content-Digest": manifest.digest,
    "Docker-Distribution-Api-Version": "registry/2.0",
    ETag: etag,
    Vary: "Accept",
  };
  const noneMatch = request.headers.get("if-none-match");
  if (noneMatch !== null && matchesEtag(noneMatch, etag)) {
    app.pulls.noteAsked(repository.id, reference, manifest);
    return new Response(null, { status: 304, headers: { ETag: etag, "Docker-Content-Digest": manifest.digest } });
  }
  if (isGet) app.audit.pull(caller, repository, reference, origin);
  if (isGet) app.pulls.note(repository.id, reference, manifest);
  else app.pulls.noteAsked(repository.id, reference, manifest);
  return new Response(isGet ? (manifest.content as Uint8Array<ArrayBuffer>) : null, { headers });
}

async function putManifestRoute({
  app,
  caller,
  request,
  route,
  repository,
  query,
  origin,
}: Context): Promise<Response> {
  const countPush = (status: string, mediaType = "") =>
    app.metrics.imagePushes.inc({ protocol: "v2", status, media_type: mediaType });
  try {
    const reference = parseReference(route.reference);
    const tagTexts = query.getAll("tag");
    if (tagTexts.length > TAGS_MAX) {
      throw new RegistryError("invalid_request", {
        message: `${tagTexts.length} tags in one push, at most ${TAGS_MAX}`,
      });
    }
    const tags = tagTexts.map(parseTag);
    const content = await readBody(request, MANIFEST_SIZE_BYTES_MAX, "manifest");
    const contentType = request.headers.get("content-type") ?? undefined;
    const input = { repository, reference, tags, contentType, content, request: origin() };
    const { digest, subject, mediaType } = await putManifest(app, caller, input);
    countPush("201", mediaType);
    const headers = new Headers({
      Location: `/v2/${repository.path}/manifests/${digest}`,
      "Docker-Content-Digest": digest,
      "Docker-Distribution-Api-Version": "registry/2.0",
    });
    if (subject && app.config.FEATURE_REFERRERS_API) headers.set("OCI-Subject", subject);
    for (const tag of tags) headers.append("OCI-Tag", tag);
    return new Response(null, { status: 201, headers });
  } catch (error) {
    if (error instanceof RegistryError) countPush("400");
    throw error;
  }
}

async function deleteManifestRoute({ app, caller, route, repository, origin }: Context): Promise<Response> {
  const reference = parseReference(route.reference);
  if (reference.kind === "tag") await deleteTag(app, caller, repository, reference.tag, origin());
  else await deleteManifest(app, caller, repository, reference.digest, origin());
  return new Response(null, { status: 202, headers: { "Docker-Distribution-Api-Version": "registry/2.0" } });
}
