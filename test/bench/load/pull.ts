/** Pulls one file over parallel streams with curl, one process each: it discards what it reads at a few GB/s a core. */
import { runProcess } from "../../support/process.ts";
import { requireTool } from "../../support/tools.ts";

export interface PullLoad {
  url: string;
  authorization: string | undefined;
  streams: number;
  sizeBytes: number;
}

const timeoutMs = 120_000;

/**
 * Gives bytes per second over all streams, redirects followed as clients do: without the credentials, which are not for the
 * store. Throws on any status but 200 and on any missing byte.
 */
export async function pullBlob(load: PullLoad): Promise<number> {
  const curl = requireTool("curl");
  const headers = load.authorization === undefined ? [] : ["-H", `authorization: ${load.authorization}`];
  const start = performance.now();
  await Promise.all(
    Array.from({ length: load.streams }, async () => {
      const { stdout } = await runProcess({
        command: curl,
        args: [
          "--silent",
          "--show-error",
          "--location",
          "-o",
          "/dev/null",
          "-w",
          "%{http_code} %{size_download}",
          ...headers,
          load.url,
        ],
        timeoutMs,
      });
      if (stdout !== `200 ${load.sizeBytes}`) throw new Error(`pull of ${load.url} gave "${stdout}" (status, bytes)`);
    }),
  );
  return (load.streams * load.sizeBytes) / ((performance.now() - start) / 1000);
}
