/** Seconds until the next try: doubled up to 15, and spread, so that a thousand pages do not come back in one instant. */
export function backoff(failures: number, random: () => number = Math.random): number {
  const seconds = Math.min(15, 0.5 * 2 ** Math.min(failures, 6));
  return seconds * (0.5 + random() / 2);
}
