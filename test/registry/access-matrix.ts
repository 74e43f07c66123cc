/**
 * The access table of /v2: what each route and method answers to each kind of caller on each kind of repository. First
 * where a caller stands towards a repository, then what that standing is answered. `access-matrix.test.ts` asks for each cell.
 */

export const REPOSITORIES = ["public", "private", "absent", "absent namespace", "READ_ONLY public"] as const;
/** "absent" is in a namespace that exists, "absent namespace" in one that does not. */
export type RepositoryCase = (typeof REPOSITORIES)[number];

export const CALLERS = [
  "anonymous",
  "anonymous token",
  "stranger",
  "reader",
  "writer",
  "admin",
  "owner",
  "robot without role",
  "robot with read",
  "robot with write",
  "superuser",
  "superuser with full access",
  "global read-only superuser",
  "restricted user in own namespace",
  "disabled user",
  "expired token",
  "token of a foreign key",
  "token of a foreign key under our key id",
  "token for another repository",
  "token for pull alone",
] as const;
export type CallerCase = (typeof CALLERS)[number];

/** Ways a caller may come. Callers that are a token, or nobody, have only the one. */
export type Way = "none" | "Basic" | "Bearer";

/**
 * - hidden: may not read it, and must not learn whether it exists;
 * - invalid: the credentials are not good for anything;
 * - knowsAbsent: may know that it does not exist, but not create it;
 * - frozen: could write, were the repository not READ_ONLY.
 */
export type Standing = "hidden" | "invalid" | "reads" | "writes" | "creates" | "knowsAbsent" | "frozen";

/** Where the caller stands, in the order of `REPOSITORIES`. */
const STANDINGS: Record<CallerCase, readonly [Standing, Standing, Standing, Standing, Standing]> = {
  anonymous: ["reads", "hidden", "hidden", "hidden", "reads"],
  "anonymous token": ["reads", "hidden", "hidden", "hidden", "reads"],
  stranger: ["reads", "hidden", "hidden", "hidden", "reads"],
  reader: ["reads", "reads", "hidden", "hidden", "reads"],
  writer: ["writes", "writes", "hidden", "hidden", "frozen"],
  admin: ["writes", "writes", "hidden", "hidden", "frozen"],
  owner: ["writes", "writes", "creates", "hidden", "frozen"],
  "robot without role": ["reads", "hidden", "hidden", "hidden", "reads"],
  "robot with read": ["reads", "reads", "hidden", "hidden", "reads"],
  "robot with write": ["writes", "writes", "hidden", "hidden", "frozen"],
  superuser: ["reads", "hidden", "hidden", "hidden", "reads"],
  "superuser with full access": ["writes", "writes", "creates", "hidden", "frozen"],
  "global read-only superuser": ["reads", "reads", "hidden", "hidden", "reads"],
  "restricted user in own namespace": ["reads", "reads", "knowsAbsent", "hidden", "frozen"],
  "disabled user": ["invalid", "invalid", "invalid", "invalid", "invalid"],
  "expired token": ["invalid", "invalid", "invalid", "invalid", "invalid"],
  "token of a foreign key": ["invalid", "invalid", "invalid", "invalid", "invalid"],
  "token of a foreign key under our key id": ["invalid", "invalid", "invalid", "invalid", "invalid"],
  "token for another repository": ["hidden", "hidden", "hidden", "hidden", "hidden"],
  "token for pull alone": ["reads", "reads", "knowsAbsent", "hidden", "frozen"],
};

export function standingOf(caller: CallerCase, repository: RepositoryCase): Standing {
  return STANDINGS[caller][REPOSITORIES.indexOf(repository)] as Standing;
}

/** What a token from /v2/auth names of "pull,push,delete", for each standing. */
export const TOKEN_ACTIONS: Record<Standing, readonly string[]> = {
  hidden: [],
  invalid: [],
  reads: ["pull"],
  writes: ["pull", "push", "delete"],
  creates: ["pull", "push"],
  knowsAbsent: ["pull"],
  frozen: ["pull"],
};

/** Who calls, for the routes where the repository does not matter. */
export type Identity = "nobody" | "anonymousToken" | "account" | "invalid" | "expired";

export function identityOf(caller: CallerCase): Identity {
  if (caller === "anonymous") return "nobody";
  if (caller === "anonymous token") return "anonymousToken";
  if (caller === "expired token") return "expired";
  return standingOf(caller, "public") === "invalid" ? "invalid" : "account";
}

/** One status, or first that of a Basic log-in and then that of a bearer token or of nobody. */
type Expected = number | readonly [basic: number, other: number];

export type ByStanding = { readonly by: "standing" } & Record<Standing, Expected>;
export type ByIdentity = { readonly by: "identity" } & Record<Identity, Expected>;
/**
 * A session in the path: another principal's (or none) by identity, the caller's own by what became of the repository.
 * A session carries its own grant: the caller needs no right beside it, and an expired token will do.
 */
export type BySession = ByIdentity & { readonly own: number; readonly ownInReadOnly: number };
export type Row = ByStanding | ByIdentity | BySession;

/** Refused: with a log-in that has all its rights 403, with anything that could come back with more 401. */
const no: Expected = [403, 401];

function pull(absent: number): ByStanding {
  return {
    by: "standing",
    hidden: no,
    invalid: 401,
    reads: 200,
    writes: 200,
    creates: absent,
    knowsAbsent: absent,
    frozen: 200,
  };
}

function push(done: number): ByStanding {
  return {
    by: "standing",
    hidden: no,
    invalid: 401,
    reads: no,
    writes: done,
    creates: done,
    knowsAbsent: no,
    frozen: 403,
  };
}

const remove: ByStanding = {
  by: "standing",
  hidden: no,
  invalid: 401,
  reads: no,
  writes: 202,
  creates: 404,
  knowsAbsent: [404, 401],
  frozen: 403,
};

const letIn: ByIdentity = {
  by: "identity",
  nobody: 401,
  anonymousToken: 200,
  account: 200,
  invalid: 401,
  expired: 401,
};

function session(own: number): BySession {
  return {
    by: "identity",
    nobody: 401,
    anonymousToken: 401,
    account: 404,
    invalid: 401,
    expired: 404,
    own,
    ownInReadOnly: 403,
  };
}

/** A row for each route and method; HEAD is GET's row. The token service takes Basic (GET) or a form (POST), no tokens. */
export const MATRIX: Record<string, Row> = {
  "GET base": letIn,
  "GET catalog": letIn,
  "GET token": { by: "identity", nobody: 200, anonymousToken: 401, account: [200, 401], invalid: 401, expired: 401 },
  "POST token": {
    by: "identity",
    nobody: 405,
    anonymousToken: 405,
    account: [200, 405],
    invalid: [401, 405],
    expired: 405,
  },
  "GET manifest": pull(404),
  "PUT manifest": push(201),
  "DELETE manifest": remove,
  "GET blob": pull(404),
  "DELETE blob": remove,
  "GET tags": pull(404),
  // Never 404: a client would take it for a registry without this API.
  "GET referrers": pull(200),
  "POST upload-start": push(202),
  "GET upload": session(204),
  "PATCH upload": session(202),
  "PUT upload": session(201),
  "DELETE upload": session(204),
};

export function statusFor(expected: Expected, way: Way): number {
  if (typeof expected === "number") return expected;
  return way === "Basic" ? expected[0] : expected[1];
}
