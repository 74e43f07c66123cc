/** Sizes and durations of a benchmark run: the full run that DESIGN section 9 speaks of, and a quick one for a first look. */

export interface Settings {
  quick: boolean;
  /** Length of one measured round of a load, in seconds. */
  seconds: number;
  /** Measured rounds per server; figures are their median. */
  rounds: number;
  /** Size of the one-stream push and of the pulled blob. */
  blobBytes: number;
  pullStreams: number;
  imageLayerBytes: number;
  imagePushers: number;
  memoryPushes: number;
  memoryPushBytes: number;
  /** The peers' memory does not follow the size; smaller pushes keep the run short. */
  memoryPeerPushBytes: number;
  /** Processes of one Berth on one port, to be compared. */
  processes: readonly number[];
  listSmall: number;
  listLarge: number;
  blobRows: number;
  /** Blobs that are garbage at once. */
  gcBlobs: number;
}

const mib = 1024 * 1024;

export const fullSettings: Settings = {
  quick: false,
  seconds: 4,
  rounds: 3,
  blobBytes: 1024 * mib,
  pullStreams: 10,
  imageLayerBytes: 1_000_000,
  imagePushers: 10,
  memoryPushes: 32,
  memoryPushBytes: 1024 * mib,
  memoryPeerPushBytes: 128 * mib,
  processes: [1, 2, 4],
  listSmall: 1_000,
  listLarge: 100_000,
  blobRows: 1_000_000,
  gcBlobs: 10_000,
};

export const quickSettings: Settings = {
  ...fullSettings,
  quick: true,
  seconds: 1,
  blobBytes: 64 * mib,
  memoryPushes: 8,
  memoryPushBytes: 64 * mib,
  memoryPeerPushBytes: 32 * mib,
  listLarge: 20_000,
  blobRows: 100_000,
  gcBlobs: 6_000,
};
