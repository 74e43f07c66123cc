/** An OpenID issuer on a free port of this machine: a discovery document, keys, and ID tokens signed with them. */

import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";

type KeyPair = Awaited<ReturnType<typeof generateKeyPair>>;

interface SignOptions {
  alg?: string;
  kid?: string;
  pair?: KeyPair;
  /** Without an end. */
  endless?: true;
}

export interface Issuer {
  /** `http://127.0.0.1:PORT`, without a slash at the end. */
  readonly url: string;
  /** How often each path was asked for. */
  readonly asked: Record<string, number>;
  /** What it says of itself and its keys; a test may change it. */
  readonly documents: Record<string, unknown>;
  /** An ID token for these claims, an hour long unless they say otherwise. */
  sign(claims: JWTPayload, options?: SignOptions): Promise<string>;
  /** Replaces its key, as issuers do from time to time. */
  rotate(): Promise<void>;
  stop(): Promise<void>;
}

export async function startIssuer(): Promise<Issuer> {
  let kid = "";
  let pair: KeyPair;
  const asked: Record<string, number> = {};
  const documents: Record<string, unknown> = {};
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      const { pathname } = new URL(request.url);
      asked[pathname] = (asked[pathname] ?? 0) + 1;
      const document = documents[pathname];
      if (document instanceof Response) return document.clone();
      return document === undefined ? new Response("nothing here", { status: 404 }) : Response.json(document);
    },
  });
  const url = `http://127.0.0.1:${server.port}`;
  const rotate = async () => {
    pair = await generateKeyPair("RS256", { extractable: true });
    kid = crypto.randomUUID();
    documents["/keys"] = { keys: [{ ...(await exportJWK(pair.publicKey)), kid, alg: "RS256", use: "sig" }] };
  };
  await rotate();
  documents["/.well-known/openid-configuration"] = { issuer: url, jwks_uri: `${url}/keys` };
  return {
    url,
    asked,
    documents,
    rotate,
    sign(claims, options = {}) {
      const nowSeconds = Math.floor(Date.now() / 1000);
      return new SignJWT({
        iss: url,
        iat: nowSeconds,
        ...(options.endless ? {} : { exp: nowSeconds + 3600 }),
        ...claims,
      })
        .setProtectedHeader({ alg: options.alg ?? "RS256", kid: options.kid ?? kid, typ: "JWT" })
        .sign((options.pair ?? pair).privateKey);
    },
    stop: () => server.stop(true),
  };
}
