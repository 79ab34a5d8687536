/** Settings: the profiles, the schemas of the phases, what the machine is fit for. */
import { flat } from "../kit/flat";
import { ask } from "./client";
import type { components } from "./openapi";

export interface Schema {
  type?: string | string[];
  title?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  const?: unknown;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  properties?: Record<string, Schema>;
  items?: Schema;
  anyOf?: Schema[];
  allOf?: Schema[];
  $ref?: string;
  $defs?: Record<string, Schema>;
}

type Schemas = components["schemas"];

/** Verdicts are ok, warn (it works, but) or fail (a run would not). */
export type Checklist = Schemas["Checklist"];
export type Profile = Schemas["Profile"];
/** Settings as they would be used, phase by phase, with who set each. */
export type Effective = Schemas["pipelines__control__services__effective_settings__Validity"];

export const getSchemas = (signal?: AbortSignal) => ask<{ phases: Record<string, Schema> }>("get", "/config/schema", { signal });
export const getProfiles = (signal?: AbortSignal) => ask<{ profiles: Profile[] }>("get", "/config/profiles", { signal });
export const getEffective = (profile: string, overrides: string[] = [], signal?: AbortSignal) =>
  ask<Effective>("post", "/config/validate", { body: { profile, overrides }, signal });
export const getDoctor = (signal?: AbortSignal) => ask<Checklist>("get", "/config/doctor", { signal });

/** All values by their full names. */
export function valuesOf(effective: Effective): Map<string, unknown> {
  const sections = { ...Object.fromEntries(Object.entries(effective.phases).map(([phase, { values }]) => [phase, values])), evaluation: effective.evaluation };
  return flat(sections);
}
