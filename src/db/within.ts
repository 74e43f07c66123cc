/** A bound on waiting for a server's answer that does not blame the server for a thread that was busy. */

/** What has arrived by the deadline may still lie unread behind whatever kept this thread busy. */
const unreadMs = 100;

/** The answer, or the error that `late` makes when there is none after `limitMs`. What is late goes on by itself. */
export async function within<T>(limitMs: number, answer: PromiseLike<T>, late = lateAfter): Promise<T> {
  let timer: Timer | undefined;
  const expired = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      timer = setTimeout(() => reject(late(limitMs)), unreadMs);
    }, limitMs);
  });
  try {
    return await Promise.race([answer, expired]);
  } finally {
    clearTimeout(timer);
  }
}

function lateAfter(limitMs: number): Error {
  return new Error(`no answer within ${limitMs} ms`);
}
