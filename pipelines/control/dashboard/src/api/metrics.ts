/** What was measured: a run's series, and several runs side by side. */
import { ask } from "./client";
import type { Claim } from "./models";
import type { Run } from "./shapes";

export interface Series {
  run: string;
  task: string;
  phase: string;
  name: string;
  points: [number, number | null, number?][];
}

export interface Compared {
  runs: Run[];
  metrics: { name: string; values: Record<string, number | null> }[];
  settings: { name: string; values: Record<string, unknown> }[];
  claims: (Claim & { run: string; phase?: string })[];
}

export const getSeries = (query: Record<string, unknown>, signal?: AbortSignal) =>
  ask<{ series: Series[] }>("get", "/metrics", { query, signal });
