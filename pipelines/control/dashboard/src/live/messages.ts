/** What comes over any of the three wires. */
import type { ForgeEvent } from "../api/shapes";

export type Message =
  | { type: "hello"; log: string; client?: string }
  | { type: "events"; run: string; events: ForgeEvent[]; last: number; head?: number }
  | { type: "caught_up"; run: string; last: number }
  | { type: "gone"; run: string; log: string }
  | { type: "runs" }
  | { type: "ping"; as_of?: number }
  | { type: "closing"; why: string };

/** A message as it is, or null for what is none: one bad message ends no stream. */
export function messageOf(text: string): Message | null {
  try {
    const value: unknown = JSON.parse(text);
    return value && typeof value === "object" && "type" in value ? (value as Message) : null;
  } catch {
    return null;
  }
}

/** The subscription to changes of the list itself. */
export const LIST = "*";

/** A way on which events come. Its owner is told what comes and when it has ended. */
export interface Wire {
  watch(run: string, after: number): void;
  leave(run: string): void;
  close(): void;
}

export interface Ears {
  heard(message: Message): void;
  ended(why: string): void;
}
