/** `berth check` against a mail server: the same connection and log-in as for a mail, over the real process. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type SmtpServer, startSmtp } from "../support/smtp.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { exitCodes, runBerth } from "./command.ts";

setDefaultTimeout(60_000);
const dir = makeTempDir("mail");
let smtp: SmtpServer;
beforeAll(async () => {
  smtp = await startSmtp({ auth: { username: "berth", password: "right" }, tls: "starttls" });
});
afterAll(async () => {
  await smtp.stop();
  dir.remove();
});

function check(name: string, config: Record<string, unknown>, { trusts = true } = {}) {
  const path = join(dir.path, name);
  mkdirSync(join(path, "extra_ca_certs"), { recursive: true });
  writeFileSync(join(path, "config.yaml"), JSON.stringify({ ...smtp.config, DB_URI: "sqlite:///berth.db", ...config }));
  if (trusts) copyFileSync(smtp.caPath ?? "", join(path, "extra_ca_certs", "mail.crt"));
  return runBerth(["check", "--config", path, "--data", join(path, "data")], { cwd: dir.path });
}

test("a server that would take mail is ok, through STARTTLS and logged in", async () => {
  const { code, stdout } = await check("good", {});
  expect(stdout).toContain(`ok       mail: localhost port ${smtp.port} would take mail from us\n`);
  expect(code).toBe(exitCodes.ok);
});

test("a wrong password and a certificate that nobody vouches for are told, with 69", async () => {
  const wrong = await check("wrong", { MAIL_PASSWORD: "wrong-and-secret" });
  expect(wrong.code).toBe(exitCodes.unavailable);
  expect(wrong.stdout).toMatch(
    /^failed {3}mail: localhost port \d+ takes no mail from us \(.*Invalid username or password/m,
  );
  expect(wrong.stdout + wrong.stderr).not.toContain("wrong-and-secret");
  const stranger = await check("stranger", {}, { trusts: false });
  expect(stranger.code).toBe(exitCodes.unavailable);
  expect(stranger.stdout).toMatch(/^failed {3}mail: .*certificate/m);
});

test("without mail there is nothing to check, and mail without SERVER_HOSTNAME is refused", async () => {
  expect((await check("off", { FEATURE_MAILING: false })).stdout).not.toContain("mail");
  const nowhere = await check("nowhere", { SERVER_HOSTNAME: undefined });
  expect(nowhere.code).toBe(exitCodes.config);
  expect(nowhere.stderr).toContain("SERVER_HOSTNAME is required with MAIL_SERVER");
});
