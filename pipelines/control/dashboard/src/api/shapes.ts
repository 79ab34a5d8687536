/** What the API answers, by the names that the pages use. */

export type RunStateName =
  | "queued" | "starting" | "running" | "cancelling" | "succeeded" | "failed" | "cancelled" | "lost";

export interface PhaseStrip {
  state: string;
  share?: number;
  stage?: string;
  step?: number;
  total?: number;
  eta?: number | null;
  attempts?: number;
}

export interface Failure {
  what: string;
  where?: string;
  why?: string;
  fix?: string;
}

export interface Run {
  id: string;
  state: RunStateName;
  version: number;
  target: string;
  origin: string;
  owner: string;
  owner_name: string;
  priority: number;
  profile: string;
  seed: number | null;
  phases: Record<string, PhaseStrip>;
  failing: string;
  why: string;
  error: Failure | null;
  created: number;
  started: number | null;
  finished: number | null;
  eta: number | null;
  last_seq: number;
  gpus: number;
  memory_bytes: number;
  pinned: boolean;
  links: { kfp?: string; mlflow?: string };
}

export interface Task {
  task: string;
  phase: string;
  component: string;
  status: string;
  attempts: number;
  started: number | null;
  finished: number | null;
  seconds: number;
  cpu_seconds: number;
  peak_memory_bytes: number;
  exit_code: number | null;
  error: string;
  depends_on: string[];
  inputs: Record<string, string[]>;
  outputs: Record<string, string>;
  digests: Record<string, string>;
  input_digests: Record<string, string[]>;
  progress: { stage?: string; step?: number; total?: number; eta?: number | null; time?: number };
  metrics: Record<string, number | null>;
}

export type ActionName = "cancel" | "resume" | "retry" | "rerun" | "delete";

export interface Allowed {
  allowed: boolean;
  why?: string;
}

export interface RunDetail extends Run {
  tasks: Task[];
  request: Record<string, unknown>;
  parameters: Record<string, unknown>;
  folder: string;
  root: string;
  log_source: Record<string, string>;
  actions: Partial<Record<ActionName, Allowed>>;
}

export interface ForgeEvent {
  run: string;
  seq: number;
  time: number;
  channel: string;
  task: string;
  attempt: number;
  data: { kind: string; [key: string]: unknown };
}

export interface Page {
  runs: Run[];
  next: string | null;
}

export interface LogLine {
  n: number;
  text: string;
  time?: number | null;
  level?: string;
  attempt?: number;
}

export interface Principal {
  id: string;
  name: string;
  role: string;
  rights: Record<string, string[]>;
}
