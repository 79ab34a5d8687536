/** Models: what the catalogue says of them, and what is asked of it. */
import { ask } from "./client";
import type { Allowed } from "./shapes";

export interface Model {
  digest: string;
  run: string;
  task: string;
  phase: string;
  kind: string;
  variant: string;
  address: string;
  parameters: number;
  bytes: number;
  score: number | null;
  scores: Record<string, number>;
  finished: number;
  owner: string;
  owner_name: string;
  pinned: boolean;
  tags: string[];
}

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

export interface ModelDetail extends Model {
  parents: string[];
  seed: number;
  code_version: string;
  config_digest: string;
  config: Record<string, unknown>;
  metrics: Record<string, number>;
  results: Record<string, Result>;
  gates: Gate[];
  claims: Claim[];
  curves: Record<string, Curve>;
  sizes: Record<string, unknown>;
  extra?: Extra;
  timing: Record<string, unknown>;
  tensor_count: number;
  tensor_bits: number | null;
  file_count: number;
  files: { name: string; bytes: number; sha256: string }[];
  deployments: { target: string; address: string; state: string; notes: string[]; created: number }[];
  actions: Record<string, Allowed>;
}

export interface Tensor {
  name: string;
  shape: number[];
  dtype: string;
  codec: string;
  bytes: number;
  bits: number | null;
  error: number | null;
}

export interface Lineage {
  digest: string;
  nodes: { digest: string; distance: number; known: boolean; phase: string; variant: string; run: string; score: number | null }[];
  edges: { parent: string; child: string }[];
  uses: { run: string; task: string; role: string; state: string; time: number }[];
  registered: string;
  cut: boolean;
}

export interface Answer {
  digest: string;
  text: string;
  finished: boolean;
  tokens: number;
  seconds: number;
  tokens_per_second: number;
  load_seconds: number;
  route: Record<string, unknown> | null;
}

type Signal = AbortSignal | undefined;

export const listModels = (query: Record<string, unknown>, signal?: Signal) =>
  ask<{ models: Model[]; next: string | null }>("get", "/models", { query, signal });
export const getModel = (digest: string, signal?: Signal) => ask<ModelDetail>("get", "/models/{digest}", { path: { digest }, signal });
export const getTensors = (digest: string, query: Record<string, unknown>, signal?: Signal) =>
  ask<{ tensors: Tensor[]; count: number; parameters: number; bytes: number; bits: number | null; next: string | null }>("get", "/models/{digest}/tensors", { path: { digest }, query, signal });
export const getLineage = (digest: string, signal?: Signal) => ask<Lineage>("get", "/models/{digest}/lineage", { path: { digest }, signal });
export const tagModel = (digest: string, tag: string, on: boolean) =>
  ask<Model>(on ? "put" : "delete", "/models/{digest}/tags/{tag}", { path: { digest, tag } });
export const pinModel = (digest: string, on: boolean) => ask<Model>(on ? "put" : "delete", "/models/{digest}/pin", { path: { digest } });
export const deleteModel = (digest: string) => ask("delete", "/models/{digest}", { path: { digest } });
export const deployModel = (digest: string, target: string) => ask("post", "/models/{digest}/deploy", { path: { digest }, body: { target } });
export const importModels = (address: string) => ask<Record<string, unknown>>("post", "/models/import", { body: { address } });
export const askModels = (models: string[], prompt: string, tokens: number, signal?: Signal) =>
  ask<{ answers: Answer[] }>("post", "/models/answer", { body: { models, prompt, tokens }, signal });
