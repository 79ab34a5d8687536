/** What was measured: a run's curves, and several runs side by side. */
import { ask } from "./client";
import type { Claim, Result } from "./models";
import type { components } from "./openapi";

export type Series = components["schemas"]["Series"];
export type Comparison = Omit<components["schemas"]["Comparison"], "models"> & {
  models: (Omit<components["schemas"]["Claims"], "results" | "claims"> & { results: Record<string, Result>; claims: Claim[] })[];
};

/** The server answers with so many curves at most. */
export const MOST_SERIES = 100;

export const getSeries = (query: Record<string, unknown>, signal?: AbortSignal) =>
  ask<{ series: Series[]; more: boolean }>("get", "/metrics", { query: { limit: MOST_SERIES, ...query }, signal });

export const compareRuns = (runs: string[], signal?: AbortSignal) =>
  ask<Comparison>("get", "/metrics/compare", { query: { runs: runs.join(",") }, signal });
