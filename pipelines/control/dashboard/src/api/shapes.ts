/** What the API answers, by the names that the pages use: all of it made of the API's own description. */
import type { components } from "./openapi";

type Schemas = components["schemas"];

export type Run = Schemas["Run"];
export type RunStateName = Run["state"];
export type PhaseStrip = Schemas["PhaseOfRun"];
export type ForgeEvent = Omit<Schemas["EventOut"], "data"> & { data: { kind: string; [key: string]: unknown } };
/** Who is told of events as they come. */
export type Heard = (events: ForgeEvent[]) => void;
export type Page = Schemas["RunPage"];
export type Principal = Schemas["Who"];
export type Allowed = Schemas["Action"];
export type ActionName = "cancel" | "resume" | "retry" | "rerun" | "delete";

/** A task, with what its newest `TaskStatus` says, which the description leaves open. */
export type Task = Schemas["TaskOfRun"] & {
  component: string;
  started: number | null;
  finished: number | null;
  seconds: number;
  cpu_seconds: number;
  peak_memory_bytes: number;
  error: string;
  digests: Record<string, string>;
  input_digests: Record<string, string[]>;
  progress: { stage?: string; step?: number; total?: number; eta?: number | null; time?: number };
};

export type RunDetail = Omit<Schemas["RunDetail"], "tasks" | "actions" | "error"> & {
  tasks: Task[];
  actions: Partial<Record<ActionName, Allowed>>;
  error?: Schemas["Problem"] | null;
};
