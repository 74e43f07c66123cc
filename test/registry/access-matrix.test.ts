/**
 * Asks for every cell of the access matrix: each route and method of /v2, as each kind of caller, on each kind of
 * repository, by each way to log in. The routes come from the table that serves them, so one without an expectation fails.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { buildRoutes } from "../../src/http/registry/routes.ts";
import { digestOf, mediaTypes } from "../support/registry-client.ts";
import {
  CALLERS,
  type CallerCase,
  identityOf,
  MATRIX,
  REPOSITORIES,
  type RepositoryCase,
  type Row,
  standingOf,
  statusFor,
  TOKEN_ACTIONS,
  type Way,
} from "./access-matrix.ts";
import { AccessWorld, waysOf } from "./access-world.ts";

/** Every route and method that is served; HEAD beside each GET. */
const OPERATIONS = [
  ...Object.entries(buildRoutes()).flatMap(([kind, methods]) =>
    Object.keys(methods).map((method) => `${method} ${kind}`),
  ),
  "GET token",
  "POST token",
].flatMap((operation) =>
  operation.startsWith("GET ") ? [operation, operation.replace("GET ", "HEAD ")] : [operation],
);

/** Every so many cells, one goes through a socket instead of straight to the handler. */
const WIRE_EVERY = 10;
const CELL_TIMEOUT_MS = 30_000;
const UNKNOWN_SESSION = "00000000-0000-4000-8000-000000000000";
const blobDigest = digestOf(AccessWorld.blob);
const manifestDigest = digestOf(AccessWorld.manifest);

let world: AccessWorld;
let asked = 0;

beforeAll(async () => {
  world = await AccessWorld.open();
}, 60_000);
afterAll(() => world.close());

interface Cell {
  operation: string;
  caller: CallerCase;
  repository: RepositoryCase;
  way: Way;
  /** Only for routes with a session in the path. */
  session?: "own" | "another's";
}

function rowOf(operation: string): Row {
  const row = MATRIX[operation.replace("HEAD ", "GET ")];
  if (!row) throw new Error(`the access matrix has no row for "${operation}"`);
  return row;
}

function expectedStatus(cell: Cell, hasSession: boolean): number {
  const row = rowOf(cell.operation);
  if (row.by === "standing") return statusFor(row[standingOf(cell.caller, cell.repository)], cell.way);
  const identity = identityOf(cell.caller);
  if (cell.session === "own" && hasSession && "own" in row && (identity === "account" || identity === "expired")) {
    return cell.repository === "READ_ONLY public" ? row.ownInReadOnly : row.own;
  }
  return statusFor(row[identity], cell.way);
}

/** Path and body of the request, on targets of its own where it would change something. */
async function prepare(
  cell: Cell,
  path: string,
): Promise<{ target: string; body?: Uint8Array; type?: string; id?: string }> {
  const base = `/v2/${path}`;
  const [method, kind] = cell.operation.split(" ");
  switch (kind) {
    case "base":
      return { target: "/v2/" };
    case "catalog":
      return { target: "/v2/_catalog?n=100" };
    case "token":
      return prepareToken(cell, path);
    case "manifest": {
      if (method === "DELETE")
        return { target: `${base}/manifests/${(await world.freshManifest(path)) ?? manifestDigest}` };
      const target = `${base}/manifests/${AccessWorld.tag}`;
      return method === "PUT" ? { target, body: AccessWorld.manifest, type: mediaTypes.index } : { target };
    }
    case "blob":
      await world.restoreBlob(path);
      return { target: `${base}/blobs/${blobDigest}` };
    case "tags":
      return { target: `${base}/tags/list` };
    case "referrers":
      return { target: `${base}/referrers/${manifestDigest}` };
    case "upload-start":
      return { target: `${base}/blobs/uploads/` };
    case "upload": {
      const id = await world.session(cell.caller, cell.session ?? "own", path);
      const target = `${base}/blobs/uploads/${id ?? UNKNOWN_SESSION}`;
      const withBody = method === "PUT" || method === "PATCH" ? { body: AccessWorld.blob } : {};
      return {
        target: method === "PUT" ? `${target}?digest=${blobDigest}` : target,
        ...withBody,
        ...(id ? { id } : {}),
      };
    }
    default:
      throw new Error(`the access matrix does not know how to ask "${cell.operation}"`);
  }
}

function prepareToken(cell: Cell, path: string): { target: string; body?: Uint8Array; type?: string } {
  const scope = `repository:${path}:pull,push,delete`;
  if (!cell.operation.startsWith("POST")) return { target: `/v2/auth?scope=${scope}` };
  const account = cell.way === "Basic" ? { grant_type: "password", ...world.credentials(cell.caller) } : {};
  const body = new TextEncoder().encode(new URLSearchParams({ scope, ...account }).toString());
  return { target: "/v2/auth", body, type: "application/x-www-form-urlencoded" };
}

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
  readonly path: string;
  readonly hasSession: boolean;
}

async function ask(cell: Cell, overWire = false): Promise<Answer> {
  const path = world.repositoryFor(cell.caller, cell.repository);
  const { target, body, type, id } = await prepare(cell, path);
  const authorization = await world.authorization(cell.caller, cell.way, path);
  const headers = {
    accept: "*/*",
    ...(type === undefined ? {} : { "content-type": type }),
    ...(authorization === undefined ? {} : { authorization }),
  };
  const method = cell.operation.split(" ")[0] ?? "";
  const response = await world.send(cell.caller, target, { method, headers, body }, overWire);
  return {
    status: response.status,
    headers: Object.fromEntries(response.headers),
    body: await response.text(),
    path,
    hasSession: id !== undefined,
  };
}

/** What is wrong with a cell, undefined when nothing is. */
async function check(cell: Cell): Promise<string | undefined> {
  const where = `${cell.operation} as ${cell.caller} on ${cell.repository} (${cell.way}${cell.session ? `, ${cell.session} session` : ""})`;
  const answer = await ask(cell, asked++ % WIRE_EVERY === 0);
  const expected = expectedStatus(cell, answer.hasSession);
  if (answer.status !== expected)
    return `${where}: ${answer.status}, expected ${expected}: ${answer.body.slice(0, 300)}`;
  if (cell.operation.startsWith("HEAD") && answer.body !== "") return `${where}: HEAD has a body`;
  return checkBody(cell, answer, where);
}

function checkBody(cell: Cell, answer: Answer, where: string): string | undefined {
  const isToken = cell.operation.endsWith(" token");
  if (answer.status === 401 && !isToken && !answer.headers["www-authenticate"])
    return `${where}: 401 without a challenge`;
  if (cell.operation.startsWith("HEAD")) return undefined;
  if (answer.status >= 400) {
    const { errors } = JSON.parse(answer.body) as { errors?: { code?: string; message?: string }[] };
    return errors?.[0]?.code && errors[0].message ? undefined : `${where}: no error envelope: ${answer.body}`;
  }
  if (cell.operation === "GET catalog") return checkCatalog(cell, answer, where);
  return isToken ? checkToken(cell, answer, where) : undefined;
}

/** The catalog names exactly what the caller may read. */
function checkCatalog(cell: Cell, answer: Answer, where: string): string | undefined {
  const { repositories } = JSON.parse(answer.body) as { repositories: string[] };
  const isRestricted = cell.caller === "restricted user in own namespace";
  const path = isRestricted ? "restricted/private" : "owner/private";
  // What a token names does not narrow the list: it is the account's.
  const account = cell.caller.startsWith("token for") ? "owner" : cell.caller;
  const mayRead = !["hidden", "invalid"].includes(standingOf(account, "private"));
  return repositories.includes(path) === mayRead ? undefined : `${where}: lists ${repositories.join(", ")}`;
}

function checkToken(cell: Cell, answer: Answer, where: string): string | undefined {
  const { token } = JSON.parse(answer.body) as { token: string };
  const claims = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as {
    access: { name: string; actions: string[] }[];
  };
  const expected = TOKEN_ACTIONS[standingOf(cell.caller, cell.repository)];
  const actual = claims.access[0]?.actions ?? [];
  // "*" stands for administration and is never given without being asked for.
  const isRight = claims.access[0]?.name === answer.path && actual.join() === expected.join();
  return isRight ? undefined : `${where}: the token allows ${actual}, expected ${expected}`;
}

function cellsOf(operation: string, caller: CallerCase): Cell[] {
  const sessions = operation.endsWith(" upload") ? (["own", "another's"] as const) : [undefined];
  return REPOSITORIES.flatMap((repository) =>
    waysOf(caller).flatMap((way) =>
      sessions.map((session) => ({ operation, caller, repository, way, ...(session ? { session } : {}) })),
    ),
  );
}

test("every route and method of /v2 has a row, and every row a route", () => {
  const served = OPERATIONS.filter((operation) => !operation.startsWith("HEAD ")).toSorted();
  expect(Object.keys(MATRIX).toSorted()).toEqual(served);
});

describe("access matrix", () => {
  for (const operation of OPERATIONS) {
    for (const caller of CALLERS) {
      test(
        `${operation} as ${caller}`,
        async () => {
          const wrong: string[] = [];
          for (const cell of cellsOf(operation, caller)) {
            const problem = await check(cell);
            if (problem) wrong.push(problem);
          }
          expect(wrong).toEqual([]);
        },
        CELL_TIMEOUT_MS,
      );
    }
  }
});

const REFUSABLE = OPERATIONS.filter((operation) => !operation.startsWith("HEAD") && !operation.startsWith("GET"));

test(
  "a refused request changes nothing",
  async () => {
    const wrong: string[] = [];
    for (const operation of REFUSABLE) {
      for (const caller of CALLERS) {
        for (const cell of cellsOf(operation, caller)) {
          const problem = await refusedChange(cell);
          if (problem) wrong.push(problem);
        }
      }
    }
    expect(wrong).toEqual([]);
  },
  // Every refusable cell of the table in one test.
  4 * CELL_TIMEOUT_MS,
);

/** Targets are made before the count, so that what is counted is the request alone. */
async function refusedChange(cell: Cell): Promise<string | undefined> {
  const path = world.repositoryFor(cell.caller, cell.repository);
  const { target, body, type, id } = await prepare(cell, path);
  if (expectedStatus(cell, id !== undefined) < 400) return undefined;
  const authorization = await world.authorization(cell.caller, cell.way, path);
  const headers = { ...(type ? { "content-type": type } : {}), ...(authorization ? { authorization } : {}) };
  const before = await world.fingerprint();
  await world.send(cell.caller, target, { method: cell.operation.split(" ")[0] ?? "", headers, body });
  const after = await world.fingerprint();
  return before === after
    ? undefined
    : `${cell.operation} as ${cell.caller} on ${cell.repository}: ${before} -> ${after}`;
}

describe("a caller who may not read a repository cannot learn that it exists", () => {
  for (const caller of CALLERS.filter((each) => ["hidden", "invalid"].includes(standingOf(each, "private")))) {
    test(
      caller,
      async () => {
        for (const operation of OPERATIONS.filter((each) => !/ (base|catalog)$/.test(each))) {
          for (const way of waysOf(caller)) {
            const cell = { operation, caller, way, session: "another's" as const };
            const hidden = comparable(await ask({ ...cell, repository: "private" }));
            for (const repository of ["absent", "absent namespace"] as const) {
              const absent = comparable(await ask({ ...cell, repository }));
              expect({ operation, way, ...absent }).toEqual({ operation, way, ...hidden });
            }
          }
        }
      },
      CELL_TIMEOUT_MS,
    );
  }
});

test("a mount from a repository that may not be read looks like one from a repository that is not there", async () => {
  for (const way of ["Basic", "Bearer"] as const) {
    const target = "stranger/mounts";
    const authorization = (await world.authorization("stranger", way, target)) ?? "";
    const answers = await Promise.all(
      ["owner/private", "owner/absent", "nowhere/app"].map(async (from) => {
        const path = `/v2/${target}/blobs/uploads/?mount=${blobDigest}&from=${from}`;
        const response = await world.send("stranger", path, { method: "POST", headers: { authorization } });
        const headers = Object.fromEntries(response.headers);
        return comparable({
          status: response.status,
          headers,
          body: await response.text(),
          path: from,
          hasSession: false,
        });
      }),
    );
    expect(answers[0]?.status).toBe(202);
    expect(answers[1]).toEqual(answers[0] as NonNullable<(typeof answers)[0]>);
    expect(answers[2]).toEqual(answers[0] as NonNullable<(typeof answers)[0]>);
  }
});

/** An answer without what differs between any two requests: the echoed name and session, ids, times and token bytes. */
function comparable(answer: Answer): { status: number; headers: Record<string, string>; body: string } {
  const neutral = (text: string) =>
    text
      .replaceAll(answer.path, "NAME")
      .replaceAll(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "UUID")
      .replaceAll(/ey[\w-]+\.[\w-]+\.[\w-]+/g, (token) => actionsIn(token))
      .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "TIME");
  const { "x-request-id": _, date: __, ...headers } = answer.headers;
  const neutralHeaders = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, neutral(value)]));
  return { status: answer.status, headers: neutralHeaders, body: neutral(answer.body) };
}

function actionsIn(token: string): string {
  const claims = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as {
    access: { actions: string[] }[];
  };
  return `TOKEN(${claims.access.map((entry) => entry.actions.join()).join(";")})`;
}
