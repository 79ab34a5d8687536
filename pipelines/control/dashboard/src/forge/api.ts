/** Asking for a run, and what it would do. */
import { ask } from "../api/client";
import type { components } from "../api/openapi";

type Schemas = components["schemas"];

export type Asked = Omit<Schemas["Asked"], "resume" | "dry_run">;
export type Plan = Schemas["PlanOfRun"];

export const planOf = (asked: Asked, signal?: AbortSignal) =>
  ask<Plan>("post", "/phases/execute", { body: { ...asked, dry_run: true }, signal });

/** Start it. The same key with the same request is the same run, however often it is sent. */
export const start = (asked: Asked, key: string) =>
  ask<Schemas["Accepted"]>("post", "/phases/execute", { body: asked, headers: { "idempotency-key": key } });
