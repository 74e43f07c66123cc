/** What the model run pushes, and how it compares what was found with what the model expects. */

import { mediaTypes } from "../support/registry-client.ts";

export interface Manifest {
  readonly mediaType: string;
  readonly body: Record<string, unknown>;
  readonly blobs: readonly string[];
  readonly children: readonly string[];
  readonly subject: string | undefined;
}

export function imageOf(config: Uint8Array, layers: readonly Uint8Array[]): Manifest {
  const describe = (mediaType: string, content: Uint8Array) => ({
    mediaType,
    size: content.length,
    digest: digestOf(content),
  });
  return {
    mediaType: mediaTypes.manifest,
    body: {
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      config: describe(mediaTypes.config, config),
      layers: layers.map((layer) => describe(mediaTypes.layer, layer)),
    },
    blobs: [...new Set([config, ...layers].map(digestOf))],
    children: [],
    subject: undefined,
  };
}

export function compare(what: string, found: readonly string[], expected: readonly string[]): void {
  const [lost, left] = [
    expected.filter((one) => !found.includes(one)).sort(),
    found.filter((one) => !expected.includes(one)).sort(),
  ];
  if (lost.length === 0 && left.length === 0) return;
  throw new Error(`${what}: lost ${JSON.stringify(lost)}, left over ${JSON.stringify(left)}`);
}

export async function expectStatus(response: Response, status: number, what: string): Promise<void> {
  if (response.status === status) return;
  throw new Error(`${what}: ${response.status} instead of ${status}: ${await response.text()}`);
}

export function bytesOf(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}`;
}
