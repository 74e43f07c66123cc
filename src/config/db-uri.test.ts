import { expect, test } from "bun:test";
import { formatDatabaseUri, parseDatabaseUri } from "./db-uri.ts";

const cases: [uri: string, standard: string | undefined][] = [
  ["postgresql://quay:secret@db:5432/quay", "postgresql://quay:secret@db:5432/quay"],
  ["postgres://quay@db/quay", "postgresql://quay@db/quay"],
  ["postgresql+psycopg2://quay:p@db/quay?sslmode=require", "postgresql://quay:p@db/quay?sslmode=require"],
  ["postgresql://quay:p@ss/w#rd?@db/quay", "postgresql://quay:p%40ss%2Fw%23rd%3F@db/quay"],
  ["postgresql://quay:p%40ss@db/quay", "postgresql://quay:p%40ss@db/quay"],
  ["postgresql://quay:100%@db/quay", "postgresql://quay:100%25@db/quay"],
  ["postgresql://quay:p@[2001:db8::1]:5432/quay", "postgresql://quay:p@[2001:db8::1]:5432/quay"],
  ["postgresql://quay@a:5432,b:5432/quay", "postgresql://quay@a:5432,b:5432/quay"],
  ["postgresql://quay:p@/quay?host=/run/postgresql", "postgresql://quay:p@/quay?host=/run/postgresql"],
  ["mysql+pymysql://quay:p@db/quay", "mysql+pymysql://quay:p@db/quay"],
  ["sqlite:///data/berth.db", "sqlite:///data/berth.db"],
  ["sqlite:////var/lib/berth.db", "sqlite:////var/lib/berth.db"],
  ["sqlite:///:memory:", undefined],
  ["sqlite://", undefined],
  ["postgresql://db", undefined],
  ["postgresql://db/", undefined],
  ["quay", undefined],
  ["", undefined],
];
for (const [uri, standard] of cases) {
  test(`"${uri}" ${standard === undefined ? "is no database" : `reads as ${standard}`}`, () => {
    const parsed = parseDatabaseUri(uri);
    expect(parsed && formatDatabaseUri(parsed)).toBe(standard);
  });
}
