/**
 * What one client's repository must hold: what was acknowledged and not deleted since, by tags. A repository has one client,
 * so only the request that a kill cut off is open; `Doubt` says how to see what became of it.
 */
import { digestOf, mediaTypes, toBytes } from "../../support/registry-client.ts";

export interface Part {
  readonly digest: string;
  readonly sizeBytes: number;
}

export interface KnownManifest {
  readonly digest: string;
  readonly content: Uint8Array;
  readonly mediaType: string;
  readonly blobs: readonly Part[];
  /** Images of an index. */
  readonly children: readonly string[];
}

/** A request of which nobody knows whether it was done. */
export interface Doubt {
  readonly what: string;
  /** Looks, and puts the outcome into the model. Throws when it is neither done nor not done. */
  settle(): Promise<void>;
}

export class RepositoryModel {
  readonly path: string;
  /** Manifests by tag. */
  readonly tags = new Map<string, string>();
  /** All that were ever pushed here. */
  readonly manifests = new Map<string, KnownManifest>();
  /** Subjects by referrer: it lives as long as its subject. */
  readonly referrers = new Map<string, string>();

  constructor(path: string) {
    this.path = path;
  }

  get(digest: string): KnownManifest {
    const found = this.manifests.get(digest);
    if (!found) throw new Error(`${digest} was never pushed to ${this.path}`);
    return found;
  }

  /** Manifests that must be there: tagged ones, images of their indexes, and what refers to either. */
  live(): Set<string> {
    const live = new Set<string>();
    const add = (digest: string): void => {
      if (live.has(digest)) return;
      live.add(digest);
      for (const child of this.get(digest).children) add(child);
      for (const [referrer, subject] of this.referrers) if (subject === digest) add(referrer);
    };
    for (const digest of this.tags.values()) add(digest);
    return live;
  }

  /** Blobs that must be there. */
  blobs(): Map<string, number> {
    const blobs = new Map<string, number>();
    for (const digest of this.live()) {
      for (const part of this.get(digest).blobs) blobs.set(part.digest, part.sizeBytes);
    }
    return blobs;
  }

  /** Forgets referrers whose subject went: they go with it. */
  prune(): void {
    const live = this.live();
    for (const [referrer, subject] of this.referrers) if (!live.has(subject)) this.referrers.delete(referrer);
  }
}

/** An image whose first blob is its config. `number` makes the manifest another one than any before. */
export function imageOf(blobs: readonly Part[], number: number, subject?: KnownManifest): KnownManifest {
  const [config, ...layers] = blobs.map(({ digest, sizeBytes }) => ({ digest, size: sizeBytes }));
  return manifestOf(mediaTypes.manifest, blobs, [], {
    config: { mediaType: mediaTypes.config, ...config },
    layers: layers.map((layer) => ({ mediaType: mediaTypes.layer, ...layer })),
    ...(subject ? { artifactType: "application/vnd.example.signature", subject: descriptorOf(subject) } : {}),
    annotations: { number: String(number) },
  });
}

export function indexOf(images: readonly KnownManifest[], number: number): KnownManifest {
  const children = images.map(({ digest }) => digest);
  return manifestOf(mediaTypes.index, [], children, {
    manifests: images.map(descriptorOf),
    annotations: { number: String(number) },
  });
}

function manifestOf(
  mediaType: string,
  blobs: readonly Part[],
  children: readonly string[],
  fields: Record<string, unknown>,
): KnownManifest {
  const content = toBytes({ schemaVersion: 2, mediaType, ...fields });
  return { digest: digestOf(content), content, mediaType, blobs, children };
}

function descriptorOf({ digest, content, mediaType }: KnownManifest) {
  return { mediaType, digest, size: content.length };
}
