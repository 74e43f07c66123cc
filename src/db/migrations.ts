/** The migrations that this program carries, as text so that the single binary needs no files beside it. */

import init from "../../sql/0001_init.sql" with { type: "text" };
import type { Migration } from "./migrate.ts";

/** In order, without gaps. Only ever added to: the text of one that was released never changes. */
export const migrations: readonly Migration[] = [{ id: 1, name: "init", text: init }];
