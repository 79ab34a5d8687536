/** A run's metrics as the lines of charts: those read from the server, and those that events have brought since. */
import type { ForgeEvent } from "../api/shapes";
import type { Line } from "../kit/chart";

export interface Points {
  task: string;
  name: string;
  stage: string;
  xs: number[];
  ys: (number | null)[];
}

/** What a phase optimises, in the order in which somebody looks for it; every other metric stands behind. */
const FIRST = ["loss", "success", "accuracy", "fitness", "reward", "gradient_norm", "kl", "lambda", "grokfast_lambda", "intrinsic_dimension"];

/** Where the success rate of training should lie: hard enough to learn from, easy enough to succeed. */
export const BAND: [number, number] = [0.55, 0.75];

export const keyOf = (task: string, stage: string, name: string): string => [task, stage, name].join("\u0000");

/** The points of metric events, put behind those that are there. */
export function withEvents(series: ReadonlyMap<string, Points>, events: readonly ForgeEvent[]): Map<string, Points> {
  const next = new Map(series);
  for (const { data, task } of events) {
    if (data.kind !== "metric") continue;
    const stage = String(data.stage ?? "");
    if (stage === "result") continue; // the artifact's own figures are no curve
    for (const [name, value] of Object.entries(data.values as Record<string, number | null>)) {
      const key = keyOf(task, stage, name);
      const old = next.get(key) ?? { task, name, stage, xs: [], ys: [] };
      const step = Number(data.step ?? 0);
      if ((old.xs.at(-1) ?? -Infinity) >= step) continue; // known already
      next.set(key, { ...old, xs: [...old.xs, step], ys: [...old.ys, value] });
    }
  }
  return next;
}

export interface ChartOf {
  name: string;
  lines: Line[];
}

/** One chart a metric, a line a task and stage. */
export function chartsOf(series: Iterable<Points>, phaseOf: (task: string) => string, phase: string): ChartOf[] {
  const charts = new Map<string, Line[]>();
  for (const { task, name, stage, xs, ys } of series) {
    if (xs.length === 0 || (phase && phaseOf(task) !== phase)) continue;
    const lines = charts.get(name) ?? [];
    const label = stage && stage !== task ? `${task} · ${stage}` : task;
    lines.push({ name: label, xs, ys });
    charts.set(name, lines);
  }
  const place = (name: string): number => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
  return [...charts]
    .map(([name, lines]) => ({ name, lines }))
    .sort((a, b) => place(a.name) - place(b.name) || a.name.localeCompare(b.name));
}
