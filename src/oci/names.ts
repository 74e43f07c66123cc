/**
 * Names of accounts and repositories: namespace, robot, team, repository path, and the rules for e-mail addresses and
 * passwords that are checked with them. The rules and their texts are Quay's; where OCI allows more, more is allowed.
 */

import { RegistryError } from "../errors.ts";
import { showValue } from "./quote.ts";

declare const pathBrand: unique symbol;
declare const namespaceBrand: unique symbol;
declare const repositoryBrand: unique symbol;
declare const robotBrand: unique symbol;

/** A user's or organization's name. */
export type NamespaceName = string & { readonly [namespaceBrand]: true };
/** The part of a repository's name after its namespace; may hold slashes. */
export type RepositoryName = string & { readonly [repositoryBrand]: true };
/** `namespace/name`: what clients put between /v2/ and /manifests/. */
export type RepositoryPath = string & { readonly [pathBrand]: true };
/** `namespace+short`. */
export type RobotName = string & { readonly [robotBrand]: true };

/** Bounds of Quay's columns and checks, in characters (all of them ASCII). */
export const NAMESPACE_LENGTH_MIN = 2;
export const NAMESPACE_LENGTH_MAX = 255;
export const REPOSITORY_NAME_LENGTH_MAX = 255;
export const REPOSITORY_PATH_LENGTH_MAX = NAMESPACE_LENGTH_MAX + 1 + REPOSITORY_NAME_LENGTH_MAX;
export const PASSWORD_LENGTH_MIN = 8;
export const EMAIL_LENGTH_MAX = 255;

const NAMESPACE_EXPRESSION = "^([a-z0-9]+(?:[._-][a-z0-9]+)*)$";
const NAMESPACE = new RegExp(NAMESPACE_EXPRESSION);
const NAME_FIRST_COMPONENT = /^[a-z0-9][a-z0-9._-]*$/;
const NAME_COMPONENT = /^[a-z0-9._-]+$/;

export interface RepositoryPathRules {
  /** Namespace of names written without one (LIBRARY_NAMESPACE when FEATURE_LIBRARY_SUPPORT is on). */
  libraryNamespace?: string;
  /** FEATURE_EXTENDED_REPOSITORY_NAMES: whether a name may hold further slashes. */
  extended: boolean;
}

export interface ParsedRepositoryPath {
  readonly path: RepositoryPath;
  readonly namespace: NamespaceName;
  readonly name: RepositoryName;
}

/**
 * Splits `namespace/name` at its first slash and checks both. The name is what Quay's expression or OCI's accepts, without
 * empty, `.` and `..` components: 1 to 255 characters. Throws `name_invalid` with Quay's texts.
 */
export function parseRepositoryPath(text: string, rules: RepositoryPathRules): ParsedRepositoryPath {
  if (text.length > REPOSITORY_PATH_LENGTH_MAX) throw invalidRepository(text, "longer than 511 characters");
  const slash = text.indexOf("/");
  const namespace = slash === -1 ? rules.libraryNamespace : text.slice(0, slash);
  if (namespace === undefined) throw invalidRepository(text, "a namespace is missing, write it as namespace/name");
  const name = text.slice(slash + 1);
  const namespaceFault = findNamespaceFault(namespace);
  if (namespaceFault) throw invalidRepository(text, namespaceFault);
  const nameFault = findNameFault(name);
  if (nameFault) throw invalidRepository(text, nameFault);
  if (!rules.extended && name.includes("/")) {
    throw new RegistryError("name_invalid", {
      message: `Nested repositories are not supported. Found: ${showValue(name)}`,
      detail: { name: showValue(text) },
    });
  }
  return {
    path: (slash === -1 ? `${namespace}/${name}` : text) as RepositoryPath,
    namespace: namespace as NamespaceName,
    name: name as RepositoryName,
  };
}

/** The name of a repository inside a known namespace, as /api/v1 takes it. Throws `name_invalid` with Quay's texts. */
export function parseRepositoryName(text: string, rules: { extended: boolean }): RepositoryName {
  const fault = findNameFault(text);
  if (fault) throw invalidRepository(text, fault);
  if (!rules.extended && text.includes("/")) {
    throw new RegistryError("name_invalid", {
      message: `Nested repositories are not supported. Found: ${showValue(text)}`,
      detail: { name: showValue(text) },
    });
  }
  return text as RepositoryName;
}

/** True for what `parseRepositoryName` takes. */
export function isRepositoryName(text: string, rules: { extended: boolean }): text is RepositoryName {
  return findNameFault(text) === undefined && (rules.extended || !text.includes("/"));
}

/** The path of a repository whose namespace and name were parsed before. */
export function repositoryPath(namespace: NamespaceName, name: RepositoryName): RepositoryPath {
  return `${namespace}/${name}` as RepositoryPath;
}

/** True for what `parseNamespaceName` takes. */
export function isNamespaceName(text: string): text is NamespaceName {
  return findNamespaceFault(text) === undefined;
}

/** A user's or organization's name. Throws `name_invalid`: `Invalid namespace <n>: …`. */
export function parseNamespaceName(text: string): NamespaceName {
  const fault = findNamespaceFault(text);
  if (fault) throw invalidName(text, `Invalid namespace ${showValue(text)}: ${fault}`);
  return text as NamespaceName;
}

/** A user name is a namespace; no `+`, which only robots have. Throws `name_invalid`. */
export const parseUsername: (text: string) => NamespaceName = parseNamespaceName;

/** Throws `name_invalid`: `Invalid team name <n>: …`. */
export function parseTeamName(text: string): string {
  const fault = findNamespaceFault(text);
  if (fault) throw invalidName(text, `Invalid team name ${showValue(text)}: ${fault}`);
  return text;
}

/** A robot's name without its namespace. Throws `name_invalid`: `The name for the robot '<n>' is invalid: …`. */
export function parseRobotShortName(text: string): string {
  const fault = findNamespaceFault(text);
  if (fault) throw invalidName(text, `The name for the robot '${showValue(text)}' is invalid: ${fault}`);
  return text;
}

export interface ParsedRobotName {
  readonly robot: RobotName;
  readonly namespace: NamespaceName;
  readonly shortName: string;
}

/** True when a log-in name is meant as a robot's: it holds a `+`. Says nothing about its validity. */
export function isRobotLike(text: string): boolean {
  return text.includes("+");
}

/** The parts of `namespace+short`, undefined when it is not a valid robot name. */
export function findRobotName(text: string): ParsedRobotName | undefined {
  if (text.length > NAMESPACE_LENGTH_MAX * 2 + 1) return undefined;
  const plus = text.indexOf("+");
  if (plus === -1) return undefined;
  const namespace = text.slice(0, plus);
  const shortName = text.slice(plus + 1);
  if (!isNamespaceName(namespace) || findNamespaceFault(shortName)) return undefined;
  return { robot: text as RobotName, namespace, shortName };
}

/** The parts of `namespace+short`. Throws `name_invalid`: `<r> is an invalid robot name`. */
export function parseRobotName(text: string): ParsedRobotName {
  const parsed = findRobotName(text);
  if (!parsed) throw invalidName(text, `${showValue(text)} is an invalid robot name`);
  return parsed;
}

/**
 * Quay's `[^@]+@[^@]+\.[^@]+`, up to 255 characters. White space and control characters are refused besides: the address
 * goes into mail headers.
 */
export function isValidEmail(text: string): boolean {
  if (text.length > EMAIL_LENGTH_MAX || /[\s\p{C}]/u.test(text)) return false;
  const [local = "", domain = "", ...rest] = text.split("@");
  return rest.length === 0 && local !== "" && domain.slice(1, -1).includes(".");
}

/** Throws `invalid_request`: `Invalid email address: <e>`. */
export function parseEmail(text: string): string {
  if (isValidEmail(text)) return text;
  throw new RegistryError("invalid_request", { message: `Invalid email address: ${showValue(text)}` });
}

/** At least 8 characters, no white space. Throws `invalid_request` with Quay's text, which never repeats the password. */
export function parsePassword(text: string): string {
  // 16 UTF-16 units hold at least 8 characters, so the rest need not be counted.
  const characters = Array.from(text.slice(0, PASSWORD_LENGTH_MIN * 2)).length;
  if (characters >= PASSWORD_LENGTH_MIN && !/\s/.test(text)) return text;
  throw new RegistryError("invalid_request", {
    message: "Invalid password, password must be at least 8 characters and contain no whitespace.",
  });
}

/** Why a text cannot be a namespace, in Quay's words; undefined when it can. */
function findNamespaceFault(text: string): string | undefined {
  if (text.length < NAMESPACE_LENGTH_MIN || text.length > NAMESPACE_LENGTH_MAX) {
    return "Namespace must be between 2 and 255 characters in length";
  }
  return NAMESPACE.test(text) ? undefined : `Namespace must match expression ${NAMESPACE_EXPRESSION}`;
}

function findNameFault(name: string): string | undefined {
  if (name.length === 0) return "the name after the namespace is empty";
  if (name.length > REPOSITORY_NAME_LENGTH_MAX) {
    return `the name after the namespace is longer than ${REPOSITORY_NAME_LENGTH_MAX} characters`;
  }
  // Nearly every name has one component.
  if (NAME_FIRST_COMPONENT.test(name)) return undefined;
  const components = name.split("/");
  for (const [index, component] of components.entries()) {
    if (component === "" || component === "." || component === "..") {
      return 'components between slashes must not be empty, "." or ".."';
    }
    if (index === 0 && !NAME_FIRST_COMPONENT.test(component)) {
      return "the name must begin with a-z or 0-9 and hold only a-z, 0-9, '.', '_', '-' and '/'";
    }
    if (!NAME_COMPONENT.test(component)) return "the name may hold only a-z, 0-9, '.', '_', '-' and '/'";
  }
  return undefined;
}

function invalidRepository(text: string, reason: string): RegistryError {
  return new RegistryError("name_invalid", {
    message: `Invalid repository name: ${showValue(text)}`,
    detail: { name: showValue(text), reason },
  });
}

function invalidName(text: string, message: string): RegistryError {
  return new RegistryError("name_invalid", { message, detail: { name: showValue(text) } });
}
