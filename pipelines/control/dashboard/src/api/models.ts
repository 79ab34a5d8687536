/** Models: what the catalogue says of them, and what is asked of it. */
import { ask } from "./client";
import type { components } from "./openapi";

type Schemas = components["schemas"];

export type Model = Schemas["Model"];
export type Tensor = Schemas["Tensor"];
export type Lineage = Schemas["Lineage"];
export type Answer = Schemas["Answer"];

export interface Result {
  score: number;
  low: number;
  high: number;
  n: number;
  chance?: number;
  detail?: Record<string, { score: number; n: number; chance?: number }>;
}

export interface Claim {
  claim: string;
  value: number;
  control_value: number;
  unit: string;
  holds: boolean;
  difference?: number;
  difference_low?: number;
  difference_high?: number;
}

export interface Gate {
  metric: string;
  value: number;
  op: string;
  bound: number;
  passed: boolean;
  on_fail?: string;
}

export interface Curve {
  x: number[];
  xlabel: string;
  ylabel: string;
  series: Record<string, (number | null)[]>;
}

export interface Member {
  genome: string;
  method: string;
  origin: string;
  parents: string[];
  fitness: number;
  loss?: number;
  scores: Record<string, number>;
}

export interface Generation {
  generation: number;
  best: number;
  mean: number;
  diversity: number;
  restarted: boolean;
  members: Member[];
}

export interface Extra {
  population?: Generation[];
  pareto?: Member[];
  champion?: Member & { genes?: unknown };
  shares?: { groups: string[]; parents: Record<string, number[]> };
  stages?: Record<string, unknown>[];
  regime?: string;
  samples?: { prompt: string; answer: string; expected: string; note?: string }[];
  [key: string]: unknown;
}

/** A model, with the parts of its manifest that the description leaves open. */
export type ModelDetail = Omit<Schemas["ModelDetail"], "results" | "claims" | "gates" | "curves" | "extra"> & {
  results: Record<string, Result>;
  claims: Claim[];
  gates: Gate[];
  curves: Record<string, Curve>;
  extra: Extra;
};

type Signal = AbortSignal | undefined;

export const listModels = (query: Record<string, unknown>, signal?: Signal) =>
  ask<Schemas["ModelPage"]>("get", "/models", { query, signal });
export const getModel = (digest: string, signal?: Signal) => ask<ModelDetail>("get", "/models/{digest}", { path: { digest }, signal });
export const getTensors = (digest: string, query: Record<string, unknown>, signal?: Signal) =>
  ask<Schemas["TensorPage"]>("get", "/models/{digest}/tensors", { path: { digest }, query, signal });
export const getLineage = (digest: string, signal?: Signal) => ask<Lineage>("get", "/models/{digest}/lineage", { path: { digest }, signal });
export const tagModel = (digest: string, tag: string, on: boolean) =>
  ask<Model>(on ? "put" : "delete", "/models/{digest}/tags/{tag}", { path: { digest, tag } });
export const pinModel = (digest: string, on: boolean) => ask<Model>(on ? "put" : "delete", "/models/{digest}/pin", { path: { digest } });
export const deleteModel = (digest: string) => ask("delete", "/models/{digest}", { path: { digest } });
export const deployModel = (digest: string, target: string) => ask("post", "/models/{digest}/deploy", { path: { digest }, body: { target } });
export const importModels = (address: string) => ask<Record<string, unknown>>("post", "/models/import", { body: { address } });
export const askModels = (models: string[], prompt: string, tokens: number, signal?: Signal) =>
  ask<Schemas["Answers"]>("post", "/models/answer", { body: { models, prompt, tokens }, signal });
