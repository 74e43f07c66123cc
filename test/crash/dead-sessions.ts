/**
 * What a killed server had sent to PostgreSQL is still done: a commit may come after the kill. Before anybody looks at what
 * became of a request, the database must be through with the dead one's connections.
 */
import { readFileSync } from "node:fs";
import postgres from "postgres";

/** Far longer than it takes; only for saying what is wrong. */
const patienceMs = 30_000;
const ESTABLISHED = "01";

/** Resolves when no session of this database belongs to a client that is gone. The database is on this machine. */
export async function deadSessionsGone(databaseUri: string): Promise<void> {
  const client = postgres(databaseUri, { max: 1, onnotice: () => undefined });
  try {
    const deadline = performance.now() + patienceMs;
    for (;;) {
      const rows = await client<{ client_port: number }[]>`
        select client_port from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and client_port > 0`;
      const alive = connectedPorts();
      if (rows.every(({ client_port }) => alive.has(client_port))) return;
      if (performance.now() > deadline) throw new Error(`the database kept sessions for ${patienceMs} ms`);
      await Bun.sleep(5);
    }
  } finally {
    await client.end({ timeout: 5 });
  }
}

/** Local ports of connections that some process holds: the kernel owns what a dead one left. Source: proc(5). */
function connectedPorts(): Set<number> {
  const ports = new Set<number>();
  for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    for (const row of readFileSync(table, "utf8").split("\n").slice(1)) {
      const [, local = "", , state, , , , , , inode] = row.trim().split(/\s+/);
      if (state !== ESTABLISHED || inode === undefined || inode === "0") continue;
      ports.add(Number.parseInt(local.slice(local.lastIndexOf(":") + 1), 16));
    }
  }
  return ports;
}
