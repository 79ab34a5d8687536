/** All lines of a task's log: page by page to the end, and on when an event says that there are more. */
import type { Heard } from "../api/shapes";
import { useCallback, useEffect, useRef, useState } from "react";
import { getLogs } from "../api/queries";
import type { Line } from "./lines";

const PAGE = 5000;
/** Beyond so many the oldest are let go. */
const KEPT = 200_000;
/** News are fetched this often at most. */
const PAUSE_MS = 1500;

export function useLines(run: string, task: string, attempt: string, hear: (listener: Heard) => () => void) {
  const [lines, become] = useState<Line[]>([]);
  const [error, fail] = useState<unknown>(null);
  const [loading, load] = useState(true);
  const [source, from] = useState("");
  const after = useRef(0);
  const busy = useRef(false);
  const more = useRef(false);
  const alive = useRef(true);

  const read = useCallback(async () => {
    if (busy.current) {
      more.current = true;
      return;
    }
    busy.current = true;
    load(true);
    try {
      for (;;) {
        more.current = false;
        const page = await getLogs(run, { task, attempt, after: after.current, limit: PAGE });
        if (!alive.current) return;
        after.current = page.next;
        if (page.lines.length) become((old) => [...old, ...page.lines].slice(-KEPT));
        from(page.source);
        fail(null);
        if (!page.more && !more.current) break;
      }
    } catch (problem) {
      if (alive.current) fail(problem);
    } finally {
      busy.current = false;
      if (alive.current) load(false);
    }
  }, [run, task, attempt]);

  useEffect(() => {
    alive.current = true;
    void read();
    let timer: ReturnType<typeof setTimeout> | null = null;
    const silence = hear((events) => {
      if (timer || !events.some((event) => event.channel === "logs" && event.task === task)) return;
      timer = setTimeout(() => {
        timer = null;
        void read();
      }, PAUSE_MS);
    });
    return () => {
      alive.current = false;
      silence();
      if (timer) clearTimeout(timer);
    };
  }, [read, hear, task]);
  return { lines, source, error: lines.length ? null : error, loading, again: () => void read() };
}
