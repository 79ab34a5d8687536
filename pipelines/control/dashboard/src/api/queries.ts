/** What the pages ask, each question once. */
import { ask } from "./client";
import type { components } from "./openapi";
import type { ForgeEvent, Page, Run, RunDetail } from "./shapes";

export const listRuns = (query: Record<string, string | undefined>, signal?: AbortSignal): Promise<Page> =>
  ask<Page>("get", "/phases/runs", { query, signal });

export const getRun = (run: string, signal?: AbortSignal): Promise<RunDetail> =>
  ask<RunDetail>("get", "/phases/runs/{run}", { path: { run }, signal });

/** Change a run as it was seen: another version since is refused with what it is now. */
export const actOnRun = (run: Run, action: string, body: unknown = {}): Promise<Run> =>
  ask<Run>("post", `/phases/runs/{run}/${action}`, {
    path: { run: run.id },
    body,
    headers: { "if-match": `"${run.version}"` },
  });

export const deleteRun = (run: Run): Promise<void> =>
  ask("delete", "/phases/runs/{run}", { path: { run: run.id }, headers: { "if-match": `"${run.version}"` } });

export const pinRun = (run: Run, pinned: boolean): Promise<Run> =>
  ask<Run>("put", "/phases/runs/{run}/pin", { path: { run: run.id }, body: { pinned }, headers: { "if-match": `"${run.version}"` } });

export type LogPage = components["schemas"]["LogPage"];

export const getLogs = (run: string, query: Record<string, unknown>, signal?: AbortSignal): Promise<LogPage> =>
  ask<LogPage>("get", "/phases/runs/{run}/logs", { path: { run }, query, signal });

export type EventPage = Omit<components["schemas"]["EventsPage"], "events"> & { events: ForgeEvent[] };

export const getEvents = (run: string, query: Record<string, unknown>, signal?: AbortSignal): Promise<EventPage> =>
  ask<EventPage>("get", "/phases/runs/{run}/events", { path: { run }, query, signal });
