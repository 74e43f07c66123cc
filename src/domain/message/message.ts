/**
 * The registry's notices to everybody: superusers write them, every page shows them. There are never many. Source: quay-api
 * reference, section 16.
 */

import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";

export const SEVERITIES = ["info", "warning", "error"] as const;
export const MEDIA_TYPES = ["text/plain", "text/markdown"] as const;
export const CONTENT_CHARS_MAX = 10_000;
/** All of them are on every page. */
const MESSAGES_MAX = 100;

export interface NewMessage {
  /** Up to CONTENT_CHARS_MAX, kept as it came: whoever shows Markdown makes it safe to show. */
  readonly content: string;
  readonly severity: (typeof SEVERITIES)[number];
  readonly mediaType: (typeof MEDIA_TYPES)[number];
}

export interface Message extends NewMessage {
  readonly uuid: string;
}

/** All messages, the oldest first. */
export async function listMessages(db: Db): Promise<Message[]> {
  const rows = await db.sql<{
    uuid: string;
    content: string;
    severity: Message["severity"];
    media_type: Message["mediaType"];
  }>`/* message.list */
    select uuid, content, severity, media_type from message order by id limit ${MESSAGES_MAX}`;
  return rows.map(({ uuid, content, severity, media_type }) => ({ uuid, content, severity, mediaType: media_type }));
}

/** Adds a message. Throws `conflict` when there are as many as are shown. */
export async function createMessage(app: Pick<App, "db" | "clock">, message: NewMessage): Promise<void> {
  const { content, severity, mediaType } = message;
  await app.db.tx(async (tx) => {
    // Two at once take turns, so that the bound holds.
    await tx.sql`/* message.lock */
      insert into setting (key, value) values ('messages', '') on conflict (key) do update set value = excluded.value`;
    const rows = await tx.sql`/* message.count */ select id from message limit ${MESSAGES_MAX}`;
    if (rows.length >= MESSAGES_MAX) {
      const text = `There are ${MESSAGES_MAX} messages already; delete one first`;
      throw new RegistryError("conflict", { message: text });
    }
    await tx.sql`/* message.insert */
      insert into message (uuid, content, severity, media_type, created_ms)
      values (${crypto.randomUUID()}, ${content}, ${severity}, ${mediaType}, ${app.clock.nowMs()})`;
  });
}

/** Removes a message; one that is gone already is no error. */
export async function deleteMessage(app: Pick<App, "db">, uuid: string): Promise<void> {
  await app.db.tx(async (tx) => {
    await tx.sql`/* message.delete */ delete from message where uuid = ${uuid}`;
  });
}
