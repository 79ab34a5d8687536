/** Asking for a run, and what it would do. */
import { ask } from "../api/client";

export interface Asked {
  start_phase: string;
  end_phase: string;
  without: string[];
  profile: string;
  seed: number | null;
  overrides: string[];
  base_models: string[];
  artifacts: string[];
  name: string;
  target: "local" | "kubeflow";
  priority: number;
  slots: number;
  cache: boolean;
}

export interface Plan {
  name: string;
  profile: string;
  seed: number | null;
  seconds: number | null;
  memory_bytes: number;
  gpus: number;
  slots: number;
  store: string;
  cost: { hours: number | null; core_hours: number | null; gpu_hours: number | null };
  tasks: { name: string; phase: string; component: string; fate: string; seconds: number | null; depends_on: string[] }[];
  ignored: string[];
}

export const planOf = (asked: Asked, signal?: AbortSignal) =>
  ask<Plan>("post", "/phases/execute", { body: { ...asked, dry_run: true }, signal });

/** Start it. The same key with the same request is the same run, however often it is sent. */
export const start = (asked: Asked, key: string) =>
  ask<{ run_id: string; state: string; version: number }>("post", "/phases/execute", { body: asked, headers: { "idempotency-key": key } });
