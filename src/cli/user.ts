/**
 * `berth user …`: accounts from the command line, for the first steps and for emergencies; everyday management is the API's
 * business. It works on the database directly, also while the registry runs.
 */

import { type BootedApp, boot, bootLogger } from "../boot.ts";
import { durationMs } from "../config/units.ts";
import { findRepositoryFacts } from "../domain/access/facts.ts";
import { pathRules } from "../domain/blob/blob.ts";
import { setAccountRole, setVisibility } from "../domain/repository/repository.ts";
import { createRobot } from "../domain/robot/robot.ts";
import {
  type Account,
  createUser,
  findAccount,
  listUsers,
  setEnabled,
  setPasswordHash,
} from "../domain/user/account.ts";
import { randomText } from "../lib/random.ts";
import { parsePassword, parseRepositoryPath, parseRobotName } from "../oci/names.ts";
import { complain, EXIT, type Invocation } from "./invocation.ts";
import { loadFor, text } from "./load.ts";

/** What it prints when it is not told what to do. */
export const USAGE = `usage: berth user COMMAND [--config PATH] [--data DIR]

  create NAME [--email ADDRESS] [--password-stdin]   make a user; without --password-stdin a password is made and printed
  password NAME [--password-stdin]                   set another password and end a lock-out
  list                                               names of all users
  enable NAME | disable NAME
  robot NAMESPACE+SHORT                              make a robot and print its token
  grant NAME NAMESPACE/REPOSITORY --role none|read|write|admin
  publish NAMESPACE/REPOSITORY | unpublish NAMESPACE/REPOSITORY
`;

const PAGE = 500;
/** A little more than the poll of `db/sqlite.ts`. */
const CHANGES_HEARD_MS = 250;
const PASSWORD_BYTES_MAX = 4096;

type Action = (app: BootedApp, invocation: Invocation, args: readonly string[]) => Promise<number>;

const ACTIONS: Record<string, { readonly args: number; readonly run: Action }> = {
  create: { args: 1, run: create },
  password: { args: 1, run: changePassword },
  list: { args: 0, run: list },
  enable: { args: 1, run: (app, _, [name = ""]) => switchAccount(app, name, true) },
  disable: { args: 1, run: (app, _, [name = ""]) => switchAccount(app, name, false) },
  robot: { args: 1, run: robot },
  grant: { args: 2, run: grant },
  publish: { args: 1, run: (app, _, [path = ""]) => publish(app, path, "public") },
  unpublish: { args: 1, run: (app, _, [path = ""]) => publish(app, path, "private") },
};

export async function userCommand(invocation: Invocation): Promise<number> {
  const [name = "", ...args] = invocation.positionals;
  const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined;
  if (!action || args.length !== action.args) return complain(USAGE, EXIT.usage);
  const loaded = loadFor(invocation);
  const app = await boot(loaded, bootLogger(loaded.config));
  try {
    const code = await action.run(app, invocation, args);
    // A registry on the same file looks for our changes this often: what comes after this command should find them done.
    if (app.db.engine === "sqlite") await Bun.sleep(CHANGES_HEARD_MS);
    return code;
  } finally {
    await app.close();
  }
}

async function create(app: BootedApp, invocation: Invocation, [username = ""]: readonly string[]): Promise<number> {
  const { password, isMade } = await choosePassword(invocation);
  const passwordHash = await app.passwords.hash(password);
  const email = text(invocation.options.email);
  await app.db.tx((tx) => createUser(tx, { username, passwordHash, email }, newAccountFacts(app)));
  process.stdout.write(isMade ? `${password}\n` : `user "${username}" created\n`);
  return EXIT.ok;
}

async function changePassword(app: BootedApp, invocation: Invocation, [name = ""]: readonly string[]): Promise<number> {
  const account = await getAccount(app, name);
  const { password, isMade } = await choosePassword(invocation);
  const passwordHash = await app.passwords.hash(password);
  await app.db.tx((tx) => setPasswordHash(tx, account.id, passwordHash));
  process.stdout.write(isMade ? `${password}\n` : `password of "${name}" changed\n`);
  return EXIT.ok;
}

async function list(app: BootedApp): Promise<number> {
  let last = "";
  for (;;) {
    const users = await listUsers(app.db, last, PAGE);
    for (const user of users) process.stdout.write(`${user.username}${user.enabled ? "" : " (disabled)"}\n`);
    const end = users.at(-1);
    if (users.length < PAGE || !end) return EXIT.ok;
    last = end.username;
  }
}

async function switchAccount(app: BootedApp, name: string, enabled: boolean): Promise<number> {
  const account = await getAccount(app, name);
  await app.db.tx((tx) => setEnabled(tx, account.id, enabled));
  process.stdout.write(`"${name}" ${enabled ? "enabled" : "disabled"}\n`);
  return EXIT.ok;
}

async function robot(app: BootedApp, _: Invocation, [fullName = ""]: readonly string[]): Promise<number> {
  const { namespace, shortName } = parseRobotName(fullName);
  const owner = await getAccount(app, namespace);
  const made = await app.db.tx((tx) => createRobot(app, tx, owner, shortName, newAccountFacts(app)));
  process.stdout.write(`${made.token}\n`);
  return EXIT.ok;
}

async function grant(
  app: BootedApp,
  invocation: Invocation,
  [name = "", path = ""]: readonly string[],
): Promise<number> {
  const role = text(invocation.options.role);
  if (role !== "none" && role !== "read" && role !== "write" && role !== "admin") return complain(USAGE, EXIT.usage);
  const account = await getAccount(app, name);
  const repositoryId = await getRepositoryId(app, path);
  await app.db.tx((tx) => setAccountRole(tx, { repositoryId, accountId: account.id, role }));
  process.stdout.write(`"${name}" has role ${role} on "${path}"\n`);
  return EXIT.ok;
}

async function publish(app: BootedApp, path: string, visibility: "public" | "private"): Promise<number> {
  const repositoryId = await getRepositoryId(app, path);
  await app.db.tx((tx) => setVisibility(tx, repositoryId, visibility));
  process.stdout.write(`"${path}" is ${visibility}\n`);
  return EXIT.ok;
}

function newAccountFacts(app: BootedApp) {
  return { tagExpirationSeconds: durationMs(app.config.DEFAULT_TAG_EXPIRATION) / 1000, nowMs: app.clock.nowMs() };
}

async function getAccount(app: BootedApp, name: string): Promise<Account> {
  const account = await findAccount(app.db, name);
  if (account) return account;
  throw new Error(`there is no account "${name}"`);
}

async function getRepositoryId(app: BootedApp, path: string): Promise<number> {
  const parsed = parseRepositoryPath(path, pathRules(app.config));
  const repository = await findRepositoryFacts(app.db, parsed.path);
  if (repository) return repository.id;
  throw new Error(`there is no repository "${path}"`);
}

async function choosePassword(invocation: Invocation): Promise<{ password: string; isMade: boolean }> {
  if (invocation.options["password-stdin"] !== true) return { password: randomText(24), isMade: true };
  const input = await Bun.stdin.text();
  const password = input.slice(0, PASSWORD_BYTES_MAX).replace(/\r?\n$/, "");
  return { password: parsePassword(password), isMade: false };
}
