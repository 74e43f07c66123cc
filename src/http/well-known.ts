/** Small public files at fixed places. Source: quay-api reference, section 17. */

import type { App } from "../app.ts";
import type { Client } from "./context.ts";
import { baseUrl } from "./registry/challenge.ts";

/** Search engines may read what is public, and gain nothing from the API. */
const ROBOTS = "User-agent: *\nDisallow: /api/\nDisallow: /oauth/\nDisallow: /v2/\n";

/** The answer at one of these paths, undefined at others. */
export function wellKnownRoute(app: App, path: string, request: Request, client: Client): Response | undefined {
  if (path === "/robots.txt") return new Response(ROBOTS, { headers: { "Content-Type": "text/plain; charset=utf-8" } });
  if (path === "/.well-known/app-capabilities")
    return Response.json(capabilities(app, baseUrl(app.config, request, client)));
  if (path === "/.well-known/change-password") {
    return new Response(null, { status: 302, headers: { Location: "/user/?tab=settings" } });
  }
  return undefined;
}

/** What other programs may build links from: templates with the parts of an image's name. */
function capabilities(app: App, base: string) {
  const api = `${base}/api/v1/repository/{namespace}/{reponame}`;
  const security = {
    "io.quay.image-security": { "rest-api-template": `${api}/image/{imageid}/security` },
    "io.quay.manifest-security": { "rest-api-template": `${api}/manifest/{digest}/security` },
  };
  return {
    appName: "io.quay",
    capabilities: {
      "io.quay.view-image": { "url-template": `${base}/{namespace}/{reponame}:{tag}` },
      ...(app.config.FEATURE_SECURITY_SCANNER ? security : {}),
    },
  };
}
