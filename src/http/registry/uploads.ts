/** /v2/<name>/blobs/uploads/…: sessions, chunks, single requests and mounts. Spec: distribution-spec "Push". */

import { mountBlob } from "../../domain/blob/blob.ts";
import {
  abandonUpload,
  appendToUpload,
  cancelUpload,
  finishUpload,
  requireUpload,
  startUpload,
  type UploadSession,
} from "../../domain/upload/upload.ts";
import { RegistryError } from "../../errors.ts";
import {
  type Digest,
  type DigestAlgorithm,
  digestAlgorithm,
  findDigest,
  isDigestAlgorithm,
  parseDigest,
} from "../../oci/digest.ts";
import type { ParsedRepositoryPath } from "../../oci/names.ts";
import { quoteValue } from "../../oci/quote.ts";
import { formatUploadRange } from "../../oci/range.ts";
import { uploadBody } from "./body.ts";
import type { MethodTable, RegistryContext, RepositoryContext } from "./routes.ts";

type StartContext = RepositoryContext<"upload-start">;
type SessionContext = RegistryContext<"upload"> & { parsed: ParsedRepositoryPath };

export const uploadRoutes: { "upload-start": MethodTable<"upload-start">; upload: MethodTable<"upload"> } = {
  "upload-start": { POST: { needs: "creates", handle: start } },
  upload: {
    GET: { needs: "upload", handle: status },
    PATCH: { needs: "upload", handle: patch },
    PUT: { needs: "upload", handle: put },
    DELETE: { needs: "upload", handle: cancel },
  },
};

async function start({ app, caller, request, repository, query }: StartContext): Promise<Response> {
  const mount = query.get("mount");
  if (mount !== null) {
    // A mount that cannot be is an upload: spec "If a registry does not support or cannot mount …".
    const digest = findDigest(mount);
    const from = query.get("from") ?? undefined;
    if (digest && (await mountBlob(app, caller, repository, digest, from))) return created(repository.path, digest);
    return started(app, repository.path, await startUpload(app, caller, repository, algorithmOf(query, digest)));
  }
  const digestText = query.get("digest");
  if (digestText === null) {
    return started(app, repository.path, await startUpload(app, caller, repository, algorithmOf(query, undefined)));
  }
  const digest = parseDigest(digestText);
  const session = await startUpload(app, caller, repository, digestAlgorithm(digest), digest);
  try {
    await finishUpload(app, session, digest, uploadBody(request));
  } catch (error) {
    // Nobody was told of this session, so nobody could go on with it.
    await abandonUpload(app, session);
    throw error;
  }
  return created(repository.path, digest);
}

async function status({ app, caller, route, parsed }: SessionContext): Promise<Response> {
  const session = await requireUpload(app, caller, parsed.path, route.uploadId);
  return accepted(parsed.path, session, 204);
}

async function patch({ app, caller, request, route, parsed }: SessionContext): Promise<Response> {
  const session = await requireUpload(app, caller, parsed.path, route.uploadId);
  app.metrics.uploadsActive.inc();
  try {
    return accepted(parsed.path, await appendToUpload(app, session, uploadBody(request)), 202);
  } finally {
    app.metrics.uploadsActive.dec();
  }
}

async function put({ app, caller, request, route, parsed, query }: SessionContext): Promise<Response> {
  const session = await requireUpload(app, caller, parsed.path, route.uploadId);
  const digestText = query.get("digest");
  if (digestText === null) {
    throw new RegistryError("digest_invalid", {
      message: "the digest parameter is missing: a PUT ends the upload and must name what was uploaded",
    });
  }
  const digest = parseDigest(digestText);
  app.metrics.uploadsActive.inc();
  try {
    await finishUpload(app, session, digest, uploadBody(request));
  } finally {
    app.metrics.uploadsActive.dec();
  }
  return created(parsed.path, digest);
}

async function cancel({ app, caller, route, parsed }: SessionContext): Promise<Response> {
  await cancelUpload(app, await requireUpload(app, caller, parsed.path, route.uploadId));
  return new Response(null, { status: 204, headers: { "Docker-Distribution-Api-Version": "registry/2.0" } });
}

/** `digest-algorithm` (draft of distribution-spec 1.2) lets the hash run while the bytes come in. */
function algorithmOf(query: URLSearchParams, digest: Digest | undefined): DigestAlgorithm {
  if (digest) return digestAlgorithm(digest);
  const text = query.get("digest-algorithm") ?? "sha256";
  if (isDigestAlgorithm(text)) return text;
  throw new RegistryError("digest_invalid", {
    message: `digest algorithm ${quoteValue(text)} is not supported, use sha256 or sha512`,
  });
}

/** Says how long chunks should be where a store takes short ones at a higher price. Spec "Pushing a blob in chunks". */
function started(app: StartContext["app"], path: string, session: UploadSession): Response {
  const response = accepted(path, session, 202);
  const { chunkBytesMin } = app.storage.driver(session.location);
  if (chunkBytesMin !== undefined) response.headers.set("OCI-Chunk-Min-Length", String(chunkBytesMin));
  return response;
}

function accepted(path: string, session: UploadSession, status: 202 | 204): Response {
  return new Response(null, {
    status,
    headers: {
      Location: `/v2/${path}/blobs/uploads/${session.id}`,
      Range: formatUploadRange(session.offsetBytes),
      "Docker-Upload-Uuid": session.id,
      "Docker-Distribution-Api-Version": "registry/2.0",
    },
  });
}

function created(path: string, digest: Digest): Response {
  return new Response(null, {
    status: 201,
    headers: {
      Location: `/v2/${path}/blobs/${digest}`,
      "Docker-Content-Digest": digest,
      "Docker-Distribution-Api-Version": "registry/2.0",
    },
  });
}
