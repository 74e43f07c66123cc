/** The little XML of the Blob service: lists of blocks out, lists of blobs and errors in. */

/** The body of Put Block List. `Latest` also finds blocks that an earlier try of the same request has committed. */
export function blockListXml(blockIds: readonly string[]): string {
  const blocks = blockIds.map((id) => `<Latest>${id}</Latest>`).join("");
  return `<?xml version="1.0" encoding="utf-8"?><BlockList>${blocks}</BlockList>`;
}

export interface ListedBlob {
  readonly name: string;
  /** By the store's clock, to the second. */
  readonly modifiedMs: number;
}

export interface BlobPage {
  readonly blobs: readonly ListedBlob[];
  /** Where the next page begins; empty after the last one. */
  readonly marker: string;
}

/** Reads an answer to List Blobs, undefined when it is none or was cut. */
export function parseBlobPage(text: string): BlobPage | undefined {
  if (!/<\/EnumerationResults>\s*$/.test(text)) return undefined;
  const blobs: ListedBlob[] = [];
  for (const [, blob = ""] of text.matchAll(/<Blob>([\s\S]*?)<\/Blob>/g)) {
    const name = elementText(blob, "Name");
    const modifiedMs = Date.parse(elementText(blob, "Last-Modified") ?? "");
    if (name === undefined || Number.isNaN(modifiedMs)) return undefined;
    blobs.push({ name, modifiedMs });
  }
  return { blobs, marker: elementText(text, "NextMarker") ?? "" };
}

/** The service's own code in the body of an error, such as `ServerBusy`. */
export function errorCode(text: string): string | undefined {
  return elementText(text, "Code");
}

function elementText(xml: string, name: string): string | undefined {
  const found = new RegExp(`<${name}(?:\\s[^>]*)?>([^<]*)</${name}>`).exec(xml)?.[1];
  return found === undefined ? undefined : decodeEntities(found);
}

const entities: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

function decodeEntities(text: string): string {
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(\w+));/g, (whole, decimal, hex, name) => {
    if (name !== undefined) return entities[name] ?? whole;
    const code = decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}
