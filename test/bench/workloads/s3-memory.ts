/** Resident memory at its highest while many large blobs are pushed to S3 at once, in parts of 8 MiB. */
import { statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { startOwnS3 } from "../../support/s3.ts";
import { berth } from "../contenders.ts";
import { below } from "../report.ts";
import type { Settings } from "../settings.ts";
import type { Workload } from "../workload.ts";
import { pushAtOnce } from "./memory.ts";
import { berthOnS3 } from "./s3.ts";

const partBytes = 8 * 1024 * 1024;
/** The server puts parts together by copying them: twice the content is on the disk for a while. Some is left to others. */
const diskShare = 0.4;

export const s3Memory: Workload = {
  name: "s3-memory",
  about: "resident memory under many large pushes to S3 at once",
  run: async ({ settings, contenders }) => {
    if (!contenders.includes(berth)) return [];
    const s3Server = await startOwnS3();
    try {
      const server = await berthOnS3(s3Server, true).start();
      try {
        const { cell, rate } = await pushAtOnce(server, settings.memoryPushes, pushBytes(settings));
        return [
          {
            work: `S3: memory, ${settings.memoryPushes} large pushes at once`,
            unit: "MB",
            cells: { berth: cell },
            targets: [below("peak RSS", settings.quick ? undefined : cell.median, 400, "MB")],
            notes: [`${rate}; parts of ${partBytes / 2 ** 20} MiB; one round: a peak has no median`],
          },
        ];
      } finally {
        await server.stop();
      }
    } finally {
      await s3Server.stop();
    }
  },
};

/** What the settings ask for, or what the disk has room for, in whole parts. */
function pushBytes({ memoryPushes, memoryPushBytes }: Settings): number {
  const { bavail, bsize } = statfsSync(tmpdir());
  const room = (bavail * bsize * diskShare) / memoryPushes;
  return Math.min(memoryPushBytes, Math.floor(room / partBytes) * partBytes);
}
