/** What a run's events change in what is known of it, at once; the server's own sum follows with the next reading. */
import type { ForgeEvent, PhaseStrip, RunDetail, Task } from "../api/shapes";

interface Progress {
  stage?: string;
  step?: number;
  total?: number;
  eta?: number | null;
}

/** Whether the events say more than can be added up here: a state has changed. */
export const decisive = (events: ForgeEvent[]): boolean =>
  events.some(({ data }) => data.kind === "run" || data.kind === "task" || data.kind === "error");

export function applied(run: RunDetail, events: ForgeEvent[]): RunDetail {
  const news = events.filter((event) => event.seq > run.last_seq);
  if (news.length === 0) return run;
  const tasks = new Map(run.tasks.map((task) => [task.task, task]));
  const touched = new Set<string>();
  for (const event of news) {
    const before = tasks.get(event.task);
    const after = before ? taskAfter(before, event) : firstOf(event);
    if (after && after !== before) {
      tasks.set(event.task, after);
      touched.add(after.phase);
    }
  }
  const all = [...tasks.values()];
  const phases = { ...run.phases };
  for (const phase of touched) {
    if (phase) phases[phase] = stripOf(all.filter((task) => task.phase === phase), phases[phase]);
  }
  return { ...run, last_seq: news.at(-1)?.seq ?? run.last_seq, tasks: all, phases };
}

function firstOf(event: ForgeEvent): Task | null {
  if (!event.task || event.data.kind !== "task") return null;
  return taskAfter({ task: event.task, progress: {}, metrics: {} } as unknown as Task, event);
}

function taskAfter(task: Task, { data, time, attempt }: ForgeEvent): Task {
  const { kind, ...rest } = data;
  if (kind === "task") {
    const status = rest as Partial<Task>;
    return { ...task, ...status, progress: status.status === "running" ? task.progress : {} };
  }
  if (kind === "progress") {
    if (attempt < task.attempts) return task;
    const { stage, step, total, eta } = rest as Progress;
    return { ...task, progress: { stage, step, total, eta, time } };
  }
  if (kind === "metric") return { ...task, metrics: { ...task.metrics, ...(rest.values as Task["metrics"]) } };
  return task;
}

const shareOf = (task: Task): number => {
  if (["succeeded", "cached", "skipped"].includes(task.status)) return 1;
  const { step = 0, total = 0 } = task.progress;
  return task.status === "running" && total > 0 ? Math.min(1, step / total) : 0;
};

function stripOf(tasks: Task[], before: PhaseStrip | undefined): PhaseStrip {
  const state = ["failed", "running", "cancelled", "interrupted", "pending"].find((one) => tasks.some((task) => task.status === one)) ?? "succeeded";
  const running = tasks.find((task) => task.status === "running");
  const sum = tasks.reduce((total, task) => total + shareOf(task), 0);
  return {
    state,
    share: Math.max(before?.state === "running" && state === "running" ? before.share : 0, sum / Math.max(1, tasks.length)),
    stage: running?.progress.stage ?? "",
    step: running?.progress.step ?? 0,
    total: running?.progress.total ?? 0,
    eta: running?.progress.eta ?? null,
    attempts: Math.max(0, ...tasks.map((task) => task.attempts)),
  };
}
