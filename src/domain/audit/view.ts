/** An entry as JSON, the same in answers and in exported files. Source: quay-api reference, section 14. */

import { httpDate } from "../../lib/http-date.ts";
import { accountAvatarKind, avatar } from "../user/avatar.ts";
import type { ShownEntry } from "./list.ts";

/** `withNamespace`: says whose namespace it was, where the list is not one namespace's. */
export function entryView(entry: ShownEntry, withNamespace: boolean): Record<string, unknown> {
  const { performer, namespace } = entry;
  return {
    kind: entry.kind,
    metadata: entry.metadata,
    ip: entry.ip ?? null,
    datetime: httpDate(entry.createdMs),
    ...(performer
      ? {
          performer: {
            kind: "user",
            name: performer.username,
            is_robot: performer.kind === "robot",
            avatar: avatar(accountAvatarKind(performer.kind), performer.username, performer.email),
          },
        }
      : {}),
    ...(withNamespace && namespace
      ? {
          namespace: {
            kind: namespace.kind === "organization" ? "org" : "user",
            name: namespace.username,
            avatar: avatar(accountAvatarKind(namespace.kind), namespace.username, namespace.email),
          },
        }
      : {}),
  };
}
