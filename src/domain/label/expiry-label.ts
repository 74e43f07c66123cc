/** Finds what the label `quay.expires-after` says of a manifest. Source: quay-behaviour reference, section 7. */

import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { EXPIRY_LABEL } from "../tag/expiration.ts";

/**
 * The value that decides when a tag on this manifest ends, undefined when none does. For an index that is what all its
 * manifests agree on, unless somebody labelled the index itself through the API.
 */
export async function findExpiryLabel(db: Db, manifestId: number): Promise<string | undefined> {
  const own = await db.sql<{ value: string; source_type: string }>`/* label.expiry */
    select value, source_type from label where manifest_id = ${manifestId} and key = ${EXPIRY_LABEL} order by id desc`;
  const set = own.find((label) => label.source_type === "api");
  if (set) return set.value;
  const children = await db.sql<{ position: number; value: string | null }>`/* label.expiry_of_children */
    select c.position, l.value from manifest_child c
    left join label l on l.manifest_id = c.child_id and l.key = ${EXPIRY_LABEL}
    where c.manifest_id = ${manifestId}`;
  if (children.length === 0) return own[0]?.value;
  const values = new Set(children.map((child) => child.value));
  const positions = new Set(children.map((child) => toNumber(child.position)));
  const [value] = values;
  // Each has it, once, and with one value.
  return values.size === 1 && positions.size === children.length ? (value ?? undefined) : undefined;
}
