/** Long polling: the last way, which every proxy lets through. */
import { ask } from "../api/client";
import { Problem } from "../api/problem";
import type { ForgeEvent } from "../api/shapes";
import { type Ears, type Wire } from "./messages";
import { gone, readers } from "./readers";

const WAIT_SECONDS = 20;

interface Answer {
  log: string;
  run: string;
  events: ForgeEvent[];
  last: number;
  caught_up: boolean;
}

export function poll(ears: Ears, log: () => string, subscriptions: () => Record<string, number>): Wire {
  const { wire, end, over } = readers(ears, (run, after, signal) => {
    read(run, after, signal).catch((error: unknown) => {
      if (signal.aborted) return;
      if (error instanceof Problem && [404, 410].includes(error.status)) void gone(ears, run);
      else end(error instanceof Error ? error.message : String(error));
    });
  });

  async function read(run: string, from: number, signal: AbortSignal): Promise<void> {
    let after = from;
    let wait = 0; // the first answer at once: it says where the log is
    while (!signal.aborted && !over()) {
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

  Object.entries(subscriptions()).forEach(([run, after]) => wire.watch(run, after));
  return wire;
}
