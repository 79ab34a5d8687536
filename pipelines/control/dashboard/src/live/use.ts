/** The live events in components. */
import { useEffect, useRef, useSyncExternalStore } from "react";
import type { ForgeEvent } from "../api/shapes";
import { connection, type Standing } from "./connection";

export const useStanding = (): Standing => useSyncExternalStore(connection.subscribe, connection.standing);

/** Call `changed` when the list of runs has, at most once in `seconds`. */
export function useRunsHint(changed: () => void, seconds = 2): void {
  const latest = useRef(changed);
  useEffect(() => {
    latest.current = changed;
  });
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | null = null;
    let last = 0;
    const unsubscribe = connection.store.onRuns(() => {
      if (timer) return;
      const pause = Math.max(0, last + seconds * 1000 - Date.now());
      timer = setTimeout(() => {
        timer = null;
        last = Date.now();
        latest.current();
      }, pause);
    });
    return () => {
      if (timer) clearTimeout(timer);
      unsubscribe();
    };
  }, [seconds]);
}

/** Hear a run's events from behind `after` on; null waits. `reset` says that all of it must be read again. */
export function useEvents(
  run: string,
  after: number | null,
  on: { events: (events: ForgeEvent[]) => void; reset: () => void },
): void {
  const latest = useRef(on);
  useEffect(() => {
    latest.current = on;
  });
  const ready = after !== null;
  const start = useRef(after);
  start.current = after;
  useEffect(() => {
    if (!ready) return undefined;
    return connection.store.watch(run, start.current ?? 0, {
      events: (events) => latest.current.events(events),
      reset: () => latest.current.reset(),
    });
  }, [run, ready]);
}
