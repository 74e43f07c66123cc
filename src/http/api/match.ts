/**
 * Finds the route of a path below /api/v1. `{repository}` takes namespace and name, which may hold slashes, so of two routes
 * that fit the one with more fixed words wins: `/repository/a/b/tag/v1` is a tag, not a repository.
 */

import type { ApiRoute } from "./route.ts";

interface Entry<R> {
  readonly route: R;
  readonly pattern: RegExp;
  readonly fixedWords: number;
}

export type Match<R> =
  | {
      readonly kind: "route";
      readonly route: R;
      readonly params: Record<string, string>;
      /** With a slash more the path is another route: it is meant when there is no repository of the longer name. */
      readonly otherwise?: string;
    }
  | { readonly kind: "method"; readonly allowed: string[] }
  /** The same path with or without its last slash is a route. */
  | { readonly kind: "redirect"; readonly path: string }
  | { readonly kind: "none" };

type Routable = Pick<ApiRoute, "method" | "path">;

/** Compiles a table. Throws when two routes have the same method and path. */
export function createMatcher<R extends Routable>(routes: readonly R[]): (method: string, path: string) => Match<R> {
  const byFirstWord = new Map<string, Entry<R>[]>();
  const seen = new Set<string>();
  for (const route of routes) {
    const key = `${route.method} ${route.path}`;
    if (seen.has(key)) throw new Error(`two routes for ${key}`);
    seen.add(key);
    const entries = byFirstWord.get(firstWord(route.path)) ?? [];
    entries.push({ route, pattern: patternOf(route.path), fixedWords: fixedWords(route.path) });
    byFirstWord.set(firstWord(route.path), entries);
  }
  for (const entries of byFirstWord.values()) entries.sort((a, b) => b.fixedWords - a.fixedWords);

  function find(method: string, path: string): Match<R> {
    const allowed: string[] = [];
    let fixedWordsAllowed = 0;
    for (const { route, pattern, fixedWords: words } of byFirstWord.get(firstWord(path)) ?? []) {
      // A path that is somebody's with another method is not handed to a route that fits it worse.
      if (allowed.length > 0 && words < fixedWordsAllowed) break;
      const found = pattern.exec(path);
      if (!found) continue;
      const params = decodeParams(found.groups ?? {});
      if (!params) continue;
      if (route.method === method) return { kind: "route", route, params };
      allowed.push(route.method);
      fixedWordsAllowed = words;
    }
    return allowed.length > 0 ? { kind: "method", allowed } : { kind: "none" };
  }

  return (method, path) => {
    const found = find(method, path);
    // `/repository/a/b/tag` is the list of tags of a/b, unless there is a repository a/b/tag.
    const isNested = found.kind === "route" && (found.params.repository ?? "").split("/").length > 2;
    if (found.kind === "route" && (!isNested || path.endsWith("/"))) return found;
    const other = path.endsWith("/") ? path.slice(0, -1) : `${path}/`;
    const there = find(method, other);
    if (found.kind === "none") return there.kind === "none" ? found : { kind: "redirect", path: other };
    if (there.kind !== "route") return found;
    if (found.kind !== "route") return { kind: "redirect", path: other };
    return there.route === found.route ? found : { ...found, otherwise: other };
  };
}

function firstWord(path: string): string {
  return path.split("/", 2)[1] ?? "";
}

function fixedWords(path: string): number {
  return path.split("/").filter((word) => word !== "" && !word.startsWith("{")).length;
}

function patternOf(path: string): RegExp {
  const source = path
    .split("/")
    .map((word) => {
      const name = /^\{([a-z_]+)\}$/.exec(word)?.[1];
      if (name === undefined) return word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
      return name === "repository" ? "(?<repository>[^/]+/.+?)" : `(?<${name}>[^/]+)`;
    })
    .join("/");
  return new RegExp(`^${source}$`);
}

/** Undefined when an escape is broken or stands for a NUL, which no name has and PostgreSQL takes for an error. */
function decodeParams(groups: Record<string, string>): Record<string, string> | undefined {
  try {
    const params = Object.entries(groups).map(([name, value]) => [name, decodeURIComponent(value)] as const);
    return params.some(([, value]) => value.includes("\u0000")) ? undefined : Object.fromEntries(params);
  } catch {
    return undefined;
  }
}
