/** Tasks as bars over the time: what ran beside what, how often, and how long. */
import { useState } from "react";
import { Link } from "wouter";
import type { RunDetail, Task } from "../api/shapes";
import { State } from "../kit/badge";
import { Action } from "../kit/action";
import { toneOf } from "../kit/phases";
import { Empty } from "../kit/states";
import { Table, type Column } from "../kit/table";
import { useNow } from "../kit/now";
import { bytes, duration, moment, percent } from "../kit/time";

const ROW = 26;
const LABEL = 210;
const WIDTH = 1100;

export function Timeline({ run }: { run: RunDetail }) {
  const now = useNow(2);
  const [asTable, showTable] = useState(false);
  if (run.tasks.length === 0) {
    return <Empty title="No task has begun">{run.why || "Tasks appear here as soon as the run starts them."}</Empty>;
  }
  return (
    <figure className="card chart" aria-label="Timeline">
      <div className="head">
        <h2>
          Tasks over time <span className="soft">{run.tasks.length} tasks</span>
        </h2>
        <Action kind="quiet" className="small" aria-pressed={asTable} onClick={() => showTable(!asTable)}>
          {asTable ? "show as chart" : "show as table"}
        </Action>
      </div>
      {asTable ? <TaskTable run={run} /> : <Bars run={run} now={now} />}
    </figure>
  );
}

const logOf = (run: RunDetail, task: Task): string => `/ui/runs/${encodeURIComponent(run.id)}?tab=logs&task=${encodeURIComponent(task.task)}`;

function Bars({ run, now }: { run: RunDetail; now: number }) {
  const begun = run.tasks.filter((task) => task.started);
  const from = Math.min(...begun.map((task) => task.started as number), run.started ?? now);
  const to = Math.max(...begun.map((task) => task.finished ?? now), from + 1);
  const at = (time: number): number => LABEL + ((time - from) / (to - from)) * (WIDTH - LABEL - 60);
  const tasks = [...run.tasks].sort((a, b) => (a.started ?? Infinity) - (b.started ?? Infinity) || a.task.localeCompare(b.task));
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => from + share * (to - from));
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label="Tasks over time">
      <svg className="drawing timeline" viewBox={`0 0 ${WIDTH} ${ROW * tasks.length + 26}`} role="list" aria-label="tasks">
        {ticks.map((time) => (
          <g key={time} aria-hidden="true">
            <line className="grid" x1={at(time)} x2={at(time)} y1="18" y2={ROW * tasks.length + 22} />
            <text className="soft" x={at(time)} y="11" textAnchor="middle">
              {duration(time - from)}
            </text>
          </g>
        ))}
        {tasks.map((task, index) => (
          <Bar key={task.task} run={run} task={task} y={22 + index * ROW} at={at} now={now} />
        ))}
      </svg>
    </div>
  );
}

function Bar({ run, task, y, at, now }: { run: RunDetail; task: Task; y: number; at: (time: number) => number; now: number }) {
  const words = [
    task.task,
    task.status,
    task.attempts > 1 && `attempt ${task.attempts}`,
    task.started && duration((task.finished ?? now) - task.started),
    task.error,
  ].filter(Boolean);
  const from = task.started ? at(task.started) : 0;
  const width = task.started ? Math.max(3, at(task.finished ?? now) - from) : 0;
  const share = task.progress?.total ? (task.progress.step ?? 0) / task.progress.total : null;
  return (
    <g role="listitem" aria-label={words.join(", ")}>
      <title>{words.join(" · ")}</title>
      <Link href={logOf(run, task)} aria-label={`Log of ${task.task}`}>
        <text x={LABEL - 8} y={y + 14} textAnchor="end">
          {task.task.length > 32 ? `…${task.task.slice(-31)}` : task.task}
        </text>
      </Link>
      {task.started ? (
        <>
          <rect className={toneOf(task.status)} x={from} y={y + 3} width={width} height={ROW - 10} rx="3" />
          <text className="soft" x={from + width + 5} y={y + 14}>
            {share !== null && task.status === "running" ? percent(share) : duration((task.finished ?? now) - task.started)}
            {task.attempts > 1 ? ` ×${task.attempts}` : ""}
          </text>
        </>
      ) : (
        <text className="soft" x={LABEL} y={y + 14}>
          {task.status}
        </text>
      )}
    </g>
  );
}

function TaskTable({ run }: { run: RunDetail }) {
  const columns: Column<Task>[] = [
    { title: "task", cell: (task) => <Link href={logOf(run, task)}>{task.task}</Link> },
    { title: "state", cell: (task) => <State state={task.status} /> },
    { title: "attempts", number: true, cell: (task) => task.attempts },
    { title: "begun", cell: (task) => moment(task.started) },
    { title: "time", number: true, cell: (task) => duration(task.seconds || null) },
    { title: "CPU", number: true, cell: (task) => duration(task.cpu_seconds || null) },
    { title: "memory", number: true, cell: (task) => (task.peak_memory_bytes ? bytes(task.peak_memory_bytes) : "–") },
    { title: "why", wide: true, cell: (task) => task.error },
  ];
  return <Table caption="Tasks" columns={columns} rows={run.tasks} id={(task) => task.task} />;
}
