/** A run's metrics as the lines of charts: those read from the server, and those that events have brought since. */
import type { ForgeEvent } from "../api/shapes";
import type { Series } from "../api/metrics";
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

/** A name in the database carries its stage: "stage: name". */
export function split(name: string): [string, string] {
  const at = name.lastIndexOf(": ");
  return at < 0 ? ["", name] : [name.slice(0, at), name.slice(at + 2)];
}

/** The curves that were read, and behind them the points that events have brought since. */
export function merged(read: readonly Series[], news: ReadonlyMap<string, Points>): Map<string, Points> {
  const all = new Map<string, Points>();
  for (const { task, metric_name: whole, steps, values } of read) {
    const [stage, name] = split(whole);
    all.set(keyOf(task, stage, name), { task, name, stage, xs: steps, ys: values });
  }
  for (const [key, points] of news) {
    const old = all.get(key);
    if (!old) {
      all.set(key, points);
      continue;
    }
    const last = old.xs.at(-1) ?? -Infinity;
    const from = points.xs.findIndex((x) => x > last);
    if (from >= 0) all.set(key, { ...old, xs: [...old.xs, ...points.xs.slice(from)], ys: [...old.ys, ...points.ys.slice(from)] });
  }
  return all;
}

/** A curve goes over steps; what an artifact says of itself is one figure, without a stage. */
export const isCurve = ({ stage, xs }: Points): boolean => stage !== "" || xs.length > 1;

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
