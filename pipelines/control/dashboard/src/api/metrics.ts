/** What was measured: a run's curves, and several runs side by side. */
import { ask } from "./client";
import type { Claim, Result } from "./models";

export interface Series {
  run: string;
  task: string;
  phase: string;
  metric_name: string;
  steps: number[];
  values: number[];
  times: number[];
  count: number;
  cut: boolean;
}

export interface Comparison {
  runs: string[];
  metrics: { phase: string; task: string; metric_name: string; values: Record<string, number>; differs: boolean }[];
  models: {
    run: string;
    phase: string;
    digest: string;
    score: number | null;
    bytes: number;
    parameters: number;
    results: Record<string, Result>;
    claims: Claim[];
    unreadable: string;
  }[];
}

/** The server answers with so many curves at most. */
export const MOST_SERIES = 100;

export const getSeries = (query: Record<string, unknown>, signal?: AbortSignal) =>
  ask<{ series: Series[]; more: boolean }>("get", "/metrics", { query: { limit: MOST_SERIES, ...query }, signal });

export const compareRuns = (runs: string[], signal?: AbortSignal) =>
  ask<Comparison>("get", "/metrics/compare", { query: { runs: runs.join(",") }, signal });
