/**
 * The token that a robot gets in exchange for an ID token of an issuer it trusts: signed with the keys of the registry
 * tokens but for another audience, it is the robot's password for an hour and good for nothing else.
 */

import { errors, type JWTPayload, jwtVerify, SignJWT } from "jose";
import type { App } from "../../app.ts";
import type { Credential } from "../access/actor.ts";
import { federationId } from "../credential/credential.ts";
import { TOKEN_ALGORITHM } from "../token/keys.ts";

/** No registry token has this audience, and no registry takes it from a bearer. */
const AUDIENCE = "robot-log-in";
const TYPE = "robot+jwt";
/** Source: quay-api reference, section 20: one hour. */
export const FEDERATED_LIFE_SECONDS = 3600;
/** The instance that made it may have a clock ahead of ours. */
const LEEWAY_SECONDS = 60;

type TokenApp = Pick<App, "tokenKeys" | "lookup" | "clock">;

export async function makeFederatedToken(
  app: TokenApp,
  robot: { id: number; username: string },
  trusted: { issuer: string; subject: string },
): Promise<string> {
  const nowSeconds = Math.floor(app.clock.nowMs() / 1000);
  const { kid, privateKey } = await app.tokenKeys.signingKey();
  return new SignJWT({ account_id: robot.id, federation: federationId(robot.id, trusted.issuer, trusted.subject) })
    .setProtectedHeader({ alg: TOKEN_ALGORITHM, typ: TYPE, kid })
    .setIssuer(app.tokenKeys.issuer)
    .setAudience(AUDIENCE)
    .setSubject(robot.username)
    .setIssuedAt(nowSeconds)
    .setExpirationTime(nowSeconds + FEDERATED_LIFE_SECONDS)
    .sign(privateKey);
}

/** True for a text of a signed token's shape: robots' own tokens have no dots. */
export function isFederatedToken(text: string): boolean {
  return /^eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/.test(text);
}

/**
 * What the token is worth for this robot; undefined when it is not ours, another robot's, over, or made for an issuer and
 * subject that the robot no longer trusts.
 */
export async function checkFederatedToken(
  app: TokenApp,
  robotId: number,
  token: string,
): Promise<{ credential: Credential; expiresMs: number } | undefined> {
  const payload = await verify(app, token);
  if (payload?.account_id !== robotId || typeof payload.federation !== "string") return undefined;
  const facts = await app.lookup.credential(payload.federation);
  if (facts?.accountId !== robotId) return undefined;
  return { credential: facts.credential, expiresMs: (payload.exp ?? 0) * 1000 };
}

async function verify(app: TokenApp, token: string): Promise<JWTPayload | undefined> {
  try {
    const { payload } = await jwtVerify(token, (header) => app.tokenKeys.keyOf(header), {
      algorithms: [TOKEN_ALGORITHM],
      issuer: app.tokenKeys.issuer,
      audience: AUDIENCE,
      typ: TYPE,
      requiredClaims: ["exp", "iat", "sub"],
      currentDate: new Date(app.clock.nowMs()),
      maxTokenAge: FEDERATED_LIFE_SECONDS,
      clockTolerance: LEEWAY_SECONDS,
    });
    return payload;
  } catch (error) {
    if (error instanceof errors.JOSEError) return undefined;
    throw error;
  }
}
