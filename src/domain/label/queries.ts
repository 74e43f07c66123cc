/** The SQL of labels. A label belongs to one manifest; several may have one key. */

import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { LabelMediaType } from "./rules.ts";

export type LabelSource = "manifest" | "api" | "internal";

export interface Label {
  readonly uuid: string;
  readonly key: string;
  readonly value: string;
  readonly sourceType: LabelSource;
  readonly mediaType: string;
}

interface LabelRow {
  uuid: string;
  key: string;
  value: string;
  source_type: LabelSource;
  media_type: string;
}

/** Labels of a manifest in the order they came, those whose key begins with `prefix`, at most `limit`. */
export async function listLabelRows(db: Db, manifestId: number, prefix: string, limit: number): Promise<Label[]> {
  const rows = await db.sql<LabelRow>`/* label.list */
    select uuid, key, value, source_type, media_type from label
    where manifest_id = ${manifestId} and substr(key, 1, cast(${[...prefix].length} as integer)) = ${prefix}
    order by id limit ${limit}`;
  return rows.map(decodeLabel);
}

export async function findLabelRow(db: Db, manifestId: number, uuid: string): Promise<Label | undefined> {
  const [row] = await db.sql<LabelRow>`/* label.find */
    select uuid, key, value, source_type, media_type from label where uuid = ${uuid} and manifest_id = ${manifestId}`;
  return row && decodeLabel(row);
}

export async function countLabels(db: Db, manifestId: number): Promise<number> {
  const [row] = await db.sql<{ labels: number }>`/* label.count */
    select count(*) as labels from label where manifest_id = ${manifestId}`;
  return toNumber(row?.labels ?? 0);
}

export interface NewLabel {
  repositoryId: number;
  manifestId: number;
  key: string;
  value: string;
  sourceType: LabelSource;
  mediaType: LabelMediaType;
}

export async function insertLabel(tx: Tx, label: NewLabel): Promise<Label> {
  const uuid = crypto.randomUUID();
  await tx.sql`/* label.insert */
    insert into label (uuid, repository_id, manifest_id, key, value, media_type, source_type)
    values (${uuid}, ${label.repositoryId}, ${label.manifestId}, ${label.key}, ${label.value}, ${label.mediaType},
            ${label.sourceType})`;
  const { key, value, sourceType, mediaType } = label;
  return { uuid, key, value, sourceType, mediaType };
}

export async function deleteLabelRow(tx: Tx, manifestId: number, uuid: string): Promise<void> {
  await tx.sql`/* label.delete */ delete from label where uuid = ${uuid} and manifest_id = ${manifestId}`;
}

function decodeLabel(row: LabelRow): Label {
  return {
    uuid: row.uuid,
    key: row.key,
    value: row.value,
    sourceType: row.source_type,
    mediaType: row.media_type,
  };
}
