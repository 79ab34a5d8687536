/** The eight phases, in their order, and what a state looks like. */

export const PHASES = ["cognate", "evomerge", "quietstar", "bitnet", "training", "baking", "adas", "compression"] as const;

/** A state's colour and sign: never a colour alone. */
export function toneOf(state: string): "good" | "bad" | "busy" | "warn" | "idle" {
  if (["succeeded", "cached", "skipped", "done"].includes(state)) return "good";
  if (["failed", "lost", "error"].includes(state)) return "bad";
  if (["running", "starting"].includes(state)) return "busy";
  if (["cancelling", "stopping", "cancelled", "interrupted"].includes(state)) return "warn";
  return "idle";
}

export const SIGNS = { good: "✓", bad: "✕", busy: "●", warn: "■", idle: "○" } as const;

export const ENDED = ["succeeded", "failed", "cancelled", "lost"];

export const ended = (state: string): boolean => ENDED.includes(state);
