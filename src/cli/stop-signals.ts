/** SIGTERM and SIGINT: the first asks for an orderly end, a second one means it. */

/** A terminal sends Ctrl-C to npm and to us, and npm passes it on: two signals this close together are one. */
const SAME_SIGNAL_MS = 500;

/** Calls `stop` once with the first signal's name, then `stopAtOnce`. Gives the handler, for other signals that stop too. */
export function onStopSignals(
  stop: (signal: string) => void,
  stopAtOnce: (signal: string) => void,
): (signal: string) => void {
  let firstMs: number | undefined;
  const onSignal = (signal: string) => {
    const nowMs = performance.now();
    if (firstMs === undefined) {
      firstMs = nowMs;
      stop(signal);
    } else if (nowMs - firstMs > SAME_SIGNAL_MS) {
      stopAtOnce(signal);
    }
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  return onSignal;
}
