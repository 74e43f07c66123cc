/** Pushes blobs and images over raw connections. Any answer but the protocol's own success ends the run. */
import { mediaTypes } from "../../support/registry-client.ts";
import type { RawConnection, RawRequest, RawResponse } from "./connection.ts";
import { makePayload, type Payload, payloadOf } from "./payload.ts";

export interface PushTarget {
  connection: RawConnection;
  repository: string;
  /** Authorization header, where the registry asks for one. */
  authorization: string | undefined;
}

const octetStream = { "content-type": "application/octet-stream" };

/** Pushes a blob as POST, PATCH with the whole content as one stream, PUT: what podman and docker do. */
export async function pushBlobStream(target: PushTarget, payload: Payload): Promise<void> {
  const started = await startUpload(target);
  const patched = await send(target, 202, { method: "PATCH", target: started, headers: octetStream, body: payload });
  await send(target, 201, { method: "PUT", target: withDigest(locationOf(patched), payload.digest) });
}

/** Pushes a blob as POST and PUT with the content: what zot's `zb` does for its monolithic image. */
export async function pushBlobAtOnce(target: PushTarget, payload: Payload): Promise<void> {
  const url = withDigest(await startUpload(target), payload.digest);
  await send(target, 201, { method: "PUT", target: url, headers: octetStream, body: payload });
}

/** Pushes a config, one layer of `layerBytes` and the manifest under a tag, nothing shared with other images. */
export async function pushImage(target: PushTarget, tag: string, layerBytes: number): Promise<void> {
  const layer = makePayload(layerBytes);
  const config = payloadOf(
    Buffer.from(JSON.stringify({ architecture: "amd64", os: "linux", tag, layer: layer.digest })),
  );
  await pushBlobAtOnce(target, layer);
  await pushBlobAtOnce(target, config);
  const manifest = {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config: { mediaType: mediaTypes.config, digest: config.digest, size: config.sizeBytes },
    layers: [{ mediaType: mediaTypes.layer, digest: layer.digest, size: layer.sizeBytes }],
  };
  await send(target, 201, {
    method: "PUT",
    target: `/v2/${target.repository}/manifests/${tag}`,
    headers: { "content-type": mediaTypes.manifest },
    body: payloadOf(Buffer.from(JSON.stringify(manifest))),
  });
}

async function startUpload(target: PushTarget): Promise<string> {
  return locationOf(await send(target, 202, { method: "POST", target: `/v2/${target.repository}/blobs/uploads/` }));
}

async function send(target: PushTarget, expected: number, request: RawRequest): Promise<RawResponse> {
  const authorization = target.authorization === undefined ? {} : { authorization: target.authorization };
  const response = await target.connection.request({ ...request, headers: { ...request.headers, ...authorization } });
  if (response.status !== expected) {
    const answer = `${response.status} ${response.body.toString("utf8").slice(0, 500)}`;
    throw new Error(`${request.method} ${request.target} was answered ${answer}; expected ${expected}`);
  }
  return response;
}

function locationOf(response: RawResponse): string {
  const location = response.headers.get("location");
  if (location === undefined) throw new Error(`an upload answer with status ${response.status} has no Location`);
  return location;
}

function withDigest(location: string, digest: string): string {
  return `${location}${location.includes("?") ? "&" : "?"}digest=${encodeURIComponent(digest)}`;
}
