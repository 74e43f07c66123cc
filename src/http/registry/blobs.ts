/** /v2/<name>/blobs/<digest>: pull with ranges, and delete. Spec: distribution-spec "Pulling blobs", "Deleting Blobs". */

import { deleteBlob, getBlob, getBlobSource, getBlobUrl } from "../../domain/blob/blob.ts";
import { parseDigest } from "../../oci/digest.ts";
import { type ByteRange, formatContentRange, parseRange } from "../../oci/range.ts";
import type { ObjectSource } from "../../storage/driver.ts";
import { matchesEtag } from "./conditions.ts";
import type { MethodTable, RepositoryContext } from "./routes.ts";

type Context = RepositoryContext<"blob">;

export const blobRoutes: MethodTable<"blob"> = {
  GET: { needs: "pull", handle: getBlobRoute },
  DELETE: { needs: "delete", handle: deleteBlobRoute },
};

async function getBlobRoute({ app, request, route, repository }: Context): Promise<Response> {
  const digest = parseDigest(route.digest);
  const blob = await getBlob(app, repository, digest);
  const etag = `"${digest}"`;
  const headers: Record<string, string> = {
    "Content-Type": "application/octet-stream",
    "Docker-Content-Digest": digest,
    "Docker-Distribution-Api-Version": "registry/2.0",
    "Accept-Ranges": "bytes",
    "Cache-Control": "private, max-age=31536000, immutable",
    // A browser that is sent here saves the bytes and never runs them; it also keeps Bun from naming the file on disk.
    "Content-Disposition": "attachment",
    ETag: etag,
  };
  const noneMatch = request.headers.get("if-none-match");
  if (noneMatch !== null && matchesEtag(noneMatch, etag)) return new Response(null, { status: 304, headers });

  const ifRange = request.headers.get("if-range");
  const rangeHeader = ifRange === null || ifRange === etag ? request.headers.get("range") : null;
  const range = parseRange(rangeHeader, blob.sizeBytes);
  const sizeBytes = range ? range.end - range.start + 1 : blob.sizeBytes;
  headers["Content-Length"] = String(sizeBytes);
  if (range) headers["Content-Range"] = formatContentRange(range, blob.sizeBytes);
  const status = range ? 206 : 200;
  if (request.method === "HEAD") return new Response(null, { status, headers });

  const url = await getBlobUrl(app, blob, { method: "GET", namespace: repository.namespace });
  app.metrics.countPulledBytes(["v2"], sizeBytes);
  if (url !== undefined) {
    return new Response(null, { status: 307, headers: { Location: url, "Docker-Content-Digest": digest } });
  }
  const source = await getBlobSource(app, blob);
  return new Response(await bodyOf(source, range, sizeBytes), { status, headers });
}

/**
 * Bun sends a stream in chunks, without the Content-Length that is given for it. What is small is read first and has one, as
 * the draft of the distribution spec wants it; what is longer than this, per request, is not kept in memory.
 */
const READ_FIRST_BYTES_MAX = 256 * 1024;

async function bodyOf(source: ObjectSource, range: ByteRange | undefined, sizeBytes: number) {
  if (source.kind === "stream") {
    const stream = await source.open(range);
    return sizeBytes <= READ_FIRST_BYTES_MAX ? new Response(stream).bytes() : stream;
  }
  const file = Bun.file(source.path);
  return range ? file.slice(range.start, range.end + 1) : file;
}

async function deleteBlobRoute({ app, route, repository }: Context): Promise<Response> {
  await deleteBlob(app, repository, parseDigest(route.digest));
  return new Response(null, { status: 202, headers: { "Docker-Distribution-Api-Version": "registry/2.0" } });
}
