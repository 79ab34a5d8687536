/** Settings: the profiles, the schemas of the phases, what the machine is fit for. */
import { ask } from "./client";

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

export interface Check {
  name: string;
  passed: boolean;
  says: string;
  fix: string;
}

export const getSchemas = (signal?: AbortSignal) => ask<Record<string, Schema>>("get", "/config/schema", { signal });
export const getProfiles = (signal?: AbortSignal) => ask<{ profiles: unknown[] }>("get", "/config/profiles", { signal });
export const getProfile = (name: string, signal?: AbortSignal) => ask<Record<string, unknown>>("get", "/config/profiles/{name}", { path: { name }, signal });
export const getConfig = (signal?: AbortSignal) => ask<Record<string, unknown>>("get", "/config", { signal });
export const getDoctor = (signal?: AbortSignal) => ask<Record<string, unknown>>("get", "/config/doctor", { signal });
