/** A wire of one request or stream a run: who is read, and that an end is said once. */
import { ask } from "../api/client";
import { type Ears, LIST, type Wire } from "./messages";

const LIST_SECONDS = 5;

export interface Readers {
  wire: Wire;
  /** The way is at its end: every reader stops. */
  end(why: string): void;
  over(): boolean;
}

/** @param read reads one run from a number on, until its signal; what it throws is its own to say. */
export function readers(ears: Ears, read: (run: string, after: number, signal: AbortSignal) => void): Readers {
  const open = new Map<string, AbortController>();
  let over = false;
  const stop = (): void => {
    over = true;
    open.forEach((controller) => controller.abort());
  };
  const end = (why: string): void => {
    if (over) return;
    stop();
    ears.ended(why);
  };
  const wire: Wire = {
    watch(run, after) {
      open.get(run)?.abort();
      const controller = new AbortController();
      open.set(run, controller);
      if (run === LIST) void pollList(ears, controller.signal, end);
      else read(run, after, controller.signal);
    },
    leave(run) {
      open.get(run)?.abort();
      open.delete(run);
    },
    close: stop,
  };
  return { wire, end, over: () => over };
}

/** The list has no stream of its own: it is read again every few seconds. */
async function pollList(ears: Ears, signal: AbortSignal, end: (why: string) => void): Promise<void> {
  while (!signal.aborted) {
    try {
      const { log } = await ask<{ log: string }>("get", "/readyz", { signal });
      ears.heard({ type: "hello", log });
      ears.heard({ type: "runs" });
    } catch (error) {
      if (!signal.aborted) end(error instanceof Error ? error.message : String(error));
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, LIST_SECONDS * 1000));
  }
}

/** A cursor means nothing any more: the whole log is another one, or the run has been removed. */
export async function gone(ears: Ears, run: string): Promise<void> {
  try {
    const { log } = await ask<{ log: string }>("get", "/readyz");
    ears.heard({ type: "hello", log });
    ears.heard({ type: "gone", run, log });
  } catch (error) {
    ears.ended(error instanceof Error ? error.message : String(error));
  }
}
