/** Long polling: the last way, which every proxy lets through. */
import { ask } from "../api/client";
import { Problem } from "../api/problem";
import type { ForgeEvent } from "../api/shapes";
import { type Ears, LIST, type Wire } from "./messages";

const WAIT_SECONDS = 20;
const LIST_SECONDS = 5;

interface Answer {
  log: string;
  run: string;
  events: ForgeEvent[];
  last: number;
  caught_up: boolean;
}

export function poll(ears: Ears, log: () => string, subscriptions: () => Record<string, number>): Wire {
  const open = new Map<string, AbortController>();
  let over = false;
  const end = (why: string): void => {
    if (over) return;
    over = true;
    open.forEach((controller) => controller.abort());
    ears.ended(why);
  };

  async function read(run: string, from: number, signal: AbortSignal): Promise<void> {
    let after = from;
    let wait = 0; // the first answer at once: it says where the log is
    while (!signal.aborted && !over) {
      const answer = await ask<Answer>("get", "/phases/runs/{run}/events", {
        path: { run },
        query: { after, wait, log: log() },
        signal,
      });
      ears.heard({ type: "hello", log: answer.log });
      ears.heard({ type: "events", run, events: answer.events, last: answer.last });
      after = answer.events.at(-1)?.seq ?? after;
      if (answer.caught_up) ears.heard({ type: "caught_up", run, last: answer.last });
      wait = answer.caught_up ? WAIT_SECONDS : 0;
    }
  }

  const wire: Wire = {
    watch(run, after) {
      open.get(run)?.abort();
      const controller = new AbortController();
      open.set(run, controller);
      if (run === LIST) return void pollList(ears, controller.signal, end);
      read(run, after, controller.signal).catch((error: unknown) => {
        if (controller.signal.aborted) return;
        if (error instanceof Problem && [404, 410].includes(error.status)) void gone(ears, run);
        else end(error instanceof Error ? error.message : String(error));
      });
    },
    leave(run) {
      open.get(run)?.abort();
      open.delete(run);
    },
    close() {
      over = true;
      open.forEach((controller) => controller.abort());
    },
  };
  Object.entries(subscriptions()).forEach(([run, after]) => wire.watch(run, after));
  return wire;
}

/** The list has no stream of its own: it is read again every few seconds. */
export async function pollList(ears: Ears, signal: AbortSignal, end: (why: string) => void): Promise<void> {
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
