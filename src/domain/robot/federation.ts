/**
 * Federation of robots: a robot trusts ID tokens of listed issuers and subjects, and whoever holds one gets a token of the
 * robot for an hour. So a build or a workload logs in without a secret of ours. Source: quay-api reference, section 20
 * (3.13); quay-behaviour, section 21.
 */

import { decodeJwt, type JWTPayload } from "jose";
import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import { findRobotName } from "../../oci/names.ts";
import { quoteValue } from "../../oci/quote.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import { credentialKey, federationId } from "../credential/credential.ts";
import { type Account, findAccount, toPrincipal } from "../user/account.ts";
import { makeFederatedToken } from "./federated-token.ts";
import { getRobotAccount, type RobotOwner } from "./robot.ts";

/** Whose tokens are taken: both are compared as they are written. */
export interface Trusted {
  readonly issuer: string;
  readonly subject: string;
}

/** More than one place builds with the same robot, but not this many. */
const TRUSTED_MAX = 20;
const TEXT_CHARS_MAX = 1024;
const ID_TOKEN_CHARS_MAX = 16 * 1024;

interface Change {
  readonly caller: Caller;
  readonly request: RequestOrigin;
}

/** What a robot trusts, by issuer and subject. Throws `invalid_request` for a robot that is not there. */
export async function listFederation(app: Pick<App, "db">, owner: RobotOwner, shortName: string): Promise<Trusted[]> {
  return findTrusted(app.db, (await getRobotAccount(app.db, owner, shortName)).id);
}

/**
 * Replaces what a robot trusts. Tokens made for what is not trusted any more end at once. Throws `invalid_request` for a
 * robot that is not there, and for issuers that could not be asked for their keys.
 */
export async function setFederation(
  app: Pick<App, "config" | "db" | "clock">,
  owner: RobotOwner,
  shortName: string,
  trusted: readonly Trusted[],
  change: Change,
): Promise<Trusted[]> {
  requireTrusted(app, trusted);
  const robot = await getRobotAccount(app.db, owner, shortName);
  await app.db.tx(async (tx) => {
    const before = await findTrusted(tx, robot.id);
    await tx.sql`/* robot_federation.clear */ delete from robot_federation where robot_id = ${robot.id}`;
    for (const { issuer, subject } of trusted) {
      await tx.sql`/* robot_federation.insert */
        insert into robot_federation (robot_id, issuer, subject) values (${robot.id}, ${issuer}, ${subject})
        on conflict do nothing`;
    }
    tx.changed(...before.map((pair) => credentialKey(federationId(robot.id, pair.issuer, pair.subject))));
    await logAction(tx, {
      kind: trusted.length === 0 ? "delete_robot_federation" : "create_robot_federation",
      caller: change.caller,
      namespaceId: owner.id,
      request: change.request,
      nowMs: app.clock.nowMs(),
      metadata: { robot: shortName, config: trusted.length === 0 ? before : trusted },
    });
  });
  return findTrusted(app.db, robot.id);
}

export type ExchangeApp = Pick<App, "config" | "db" | "clock" | "lookup" | "tokenKeys" | "issuers">;

/**
 * A token of the robot for an ID token that it trusts, meant for one of `audiences`. Throws `unauthorized` for everything
 * that is not right with robot or token, `downstream_issue` or `external_service_timeout` when the issuer cannot be asked.
 */
export async function exchangeIdToken(
  app: ExchangeApp,
  input: { robotName: string; idToken: string; audiences: readonly string[]; request: RequestOrigin },
): Promise<string> {
  const { robotName, idToken, audiences } = input;
  const claims = idToken.length > ID_TOKEN_CHARS_MAX ? undefined : readUnverified(idToken);
  const robot = await findFederated(app, robotName);
  // The issuer is asked for its keys only when a robot trusts it: nobody sends us anywhere else.
  const trusted = robot ? await findTrusted(app.db, robot.id) : [];
  const pair = trusted.find(({ issuer, subject }) => issuer === claims?.iss && subject === claims?.sub);
  if (!robot || !pair) throw untrusted(robotName);
  const verified = await app.issuers.verify(idToken, pair.issuer, audiences);
  if (verified.sub !== pair.subject) throw untrusted(robotName);
  const token = await makeFederatedToken(app, robot, pair);
  const principal = toPrincipal(app.config, robot);
  await app.db.tx(async (tx) => {
    const credential = { kind: "federation", ...pair } as const;
    await logAction(tx, {
      kind: "federated_robot_token_exchange",
      caller: { principal, grants: undefined, expired: false, authKind: "basic", credential },
      namespaceId: robot.ownerId,
      request: input.request,
      nowMs: app.clock.nowMs(),
      metadata: { robot: robotName, issuer: pair.issuer, subject: pair.subject },
    });
  });
  return token;
}

/** An enabled robot that may log in, undefined otherwise. */
async function findFederated(app: ExchangeApp, name: string): Promise<Account | undefined> {
  if (!findRobotName(name)) return undefined;
  if (app.config.ROBOTS_DISALLOW && !app.config.ROBOTS_WHITELIST.includes(name)) return undefined;
  const account = await findAccount(app.db, name);
  return account?.kind === "robot" && account.enabled ? account : undefined;
}

async function findTrusted(db: Db, robotId: number): Promise<Trusted[]> {
  return db.sql<Trusted>`/* robot_federation.list */
    select issuer, subject from robot_federation where robot_id = ${robotId} order by issuer, subject`;
}

function requireTrusted(app: Pick<App, "config">, trusted: readonly Trusted[]): void {
  if (trusted.length > TRUSTED_MAX) throw invalid(`A robot can trust ${TRUSTED_MAX} issuers and subjects at most`);
  for (const { issuer, subject } of trusted) {
    if (subject === "" || subject.length > TEXT_CHARS_MAX) throw invalid("Each entry needs a subject");
    if (issuer.length > TEXT_CHARS_MAX || !isIssuer(app, issuer)) {
      throw invalid(`The issuer ${quoteValue(issuer)} must be an https address without query, fragment or user name`);
    }
  }
}

/** OpenID Connect Discovery 1.0, section 2. Plain http only where the operator has named the host. */
function isIssuer(app: Pick<App, "config">, text: string): boolean {
  if (!URL.canParse(text) || /[?#\s]/.test(text)) return false;
  const url = new URL(text);
  if (url.username !== "" || url.password !== "") return false;
  return (
    url.protocol === "https:" || (url.protocol === "http:" && app.config.SSRF_ALLOWED_HOSTS.includes(url.hostname))
  );
}

function readUnverified(token: string): JWTPayload | undefined {
  try {
    return decodeJwt(token);
  } catch {
    return undefined;
  }
}

function invalid(message: string): RegistryError {
  return new RegistryError("invalid_request", { message });
}

/** One text for all of it: which robots there are and whom they trust is not for everybody. */
function untrusted(robotName: string): RegistryError {
  return new RegistryError("unauthorized", {
    message: `There is no robot ${quoteValue(robotName)} that trusts the issuer and subject of this token`,
  });
}
