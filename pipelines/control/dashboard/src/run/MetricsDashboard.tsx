/** What a run measures, as it goes; and the curves that its finished phases keep in their manifests. */
import { useQueries, useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { getSeries } from "../api/metrics";
import { getModel, type Curve } from "../api/models";
import type { Heard, RunDetail } from "../api/shapes";
import { useChoice } from "../kit/address";
import { Chart, type Line } from "../kit/chart";
import { PHASES } from "../kit/phases";
import { Empty, Shown } from "../kit/states";
import { Table, type Column } from "../kit/table";
import { bytes, duration, figure } from "../kit/time";
import { published } from "./artifacts";
import { BAND, chartsOf, isCurve, merged, withEvents, type Points } from "./series";

const POINTS = 2000;

export default function MetricsDashboard({ run, hear }: { run: RunDetail; hear: (listener: Heard) => () => void }) {
  const [choice, choose] = useChoice();
  const known = PHASES.filter((phase) => run.phases[phase]);
  const phase = known.find((name) => name === choice.phase) ?? atPhase(run) ?? known[0] ?? "";
  const query = useQuery({
    queryKey: ["series", run.id, phase],
    queryFn: ({ signal }) => getSeries({ run: run.id, phase, points: POINTS }, signal),
    staleTime: 5_000,
  });
  const [news, add] = useState<ReadonlyMap<string, Points>>(new Map());
  useEffect(() => hear((events) => add((old) => withEvents(old, events))), [hear]);
  const phaseOf = useMemo(() => {
    const phases = new Map(run.tasks.map((task) => [task.task, task.phase]));
    return (task: string): string => phases.get(task) ?? "";
  }, [run.tasks]);
  return (
    <>
      <Figures run={run} />
      <div className="row">
        <select aria-label="phase" value={phase} onChange={(event) => choose({ phase: event.target.value })}>
          {known.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
        <span className="soft small">drag over a chart to look closer, click twice to see all</span>
      </div>
      <Shown query={query} what="the metrics">
        {({ series }) => {
          const all = merged(series, news);
          const charts = chartsOf([...all.values()].filter(isCurve), phaseOf, phase);
          return (
            <>
              {charts.length === 0 && <Empty title="No curve yet">Curves appear as soon as the phase has measured something as it goes.</Empty>}
              <div className="cards">
                {charts.map(({ name, lines }) => (
                  <Chart key={name} title={name} x="step" y="" lines={lines} band={name === "success" ? BAND : undefined} />
                ))}
              </div>
              <Results points={[...all.values()].filter((one) => !isCurve(one))} />
            </>
          );
        }}
      </Shown>
      <Kept run={run} phase={phase} />
    </>
  );
}

/** The phase that somebody wants to see first: the one at work, else the last one that has begun. */
function atPhase(run: RunDetail): string | undefined {
  const begun = PHASES.filter((phase) => run.tasks.some((task) => task.phase === phase && task.started));
  return begun.find((phase) => run.phases[phase]?.state === "running") ?? (begun.includes("training") ? "training" : begun.at(-1));
}

/** What a phase measured once, at its end. */
function Results({ points }: { points: Points[] }) {
  if (points.length === 0) return null;
  const tasks = [...new Set(points.map(({ task }) => task))].sort();
  const names = [...new Set(points.map(({ name }) => name))].sort();
  const values = new Map(points.map(({ task, name, ys }) => [`${task} ${name}`, ys.at(-1)]));
  return (
    <details className="card">
      <summary>Measured at the end: {names.length} figures</summary>
      <Table
        caption="Results"
        columns={[
          { title: "metric", cell: (name: string) => name },
          ...tasks.map((task): Column<string> => ({ title: task, number: true, cell: (name) => figure(values.get(`${task} ${name}`)) })),
        ]}
        rows={names}
        id={(name) => name}
      />
    </details>
  );
}

function Figures({ run }: { run: RunDetail }) {
  const rows = PHASES.filter((phase) => run.phases[phase]).map((phase) => {
    const tasks = run.tasks.filter((task) => task.phase === phase);
    const last = tasks.at(-1)?.metrics ?? {};
    return {
      phase,
      seconds: tasks.reduce((sum, task) => sum + (task.seconds ?? 0), 0),
      cpu: tasks.reduce((sum, task) => sum + (task.cpu_seconds ?? 0), 0),
      memory: Math.max(0, ...tasks.map((task) => task.peak_memory_bytes ?? 0)),
      size: last.bytes,
      retention: last.retention,
      parameters: last.parameters,
    };
  });
  return (
    <details className="card">
      <summary>Time, memory, size and retention, phase by phase</summary>
      <Table
        caption="Cost of the phases"
        columns={[
          { title: "phase", cell: (row) => row.phase },
          { title: "time", number: true, cell: (row) => duration(row.seconds || null) },
          { title: "CPU", number: true, cell: (row) => duration(row.cpu || null) },
          { title: "memory", number: true, cell: (row) => (row.memory ? bytes(row.memory) : "–") },
          { title: "parameters", number: true, cell: (row) => figure(row.parameters) },
          { title: "size", number: true, cell: (row) => (row.size ? bytes(row.size) : "–") },
          { title: "retention", number: true, cell: (row) => figure(row.retention) },
        ]}
        rows={rows}
        id={(row) => row.phase}
      />
    </details>
  );
}

function Kept({ run, phase }: { run: RunDetail; phase: string }) {
  const [open, show] = useState(true);
  const of = published(run.tasks.filter((task) => task.phase === phase));
  const models = useQueries({
    queries: of.map(({ digest }) => ({
      queryKey: ["model", digest],
      queryFn: ({ signal }: { signal: AbortSignal }) => getModel(digest, signal),
      staleTime: Infinity,
      enabled: open,
    })),
  });
  if (of.length === 0) return null;
  const charts = models.flatMap(({ data }, index) =>
    Object.entries(data?.curves ?? {}).map(([title, curve]) => ({ title, task: of[index]?.task.task ?? "", curve })),
  );
  return (
    <details className="card" open={open} onToggle={(event) => show(event.currentTarget.open)}>
      <summary>Curves that finished phases keep: ID/d, Grokfast's λ, dreams, success rate by stage …</summary>
      <div className="cards">
        {charts.map(({ title, task, curve }) => (
          <KeptCurve key={`${task} ${title}`} title={`${task}: ${title}`} curve={curve} />
        ))}
      </div>
      {charts.length === 0 && <p className="soft">{models.some(({ isFetching }) => isFetching) ? "Loading …" : "What has finished so far keeps none."}</p>}
    </details>
  );
}

export function KeptCurve({ title, curve }: { title: string; curve: Curve }) {
  const lines = useMemo<Line[]>(
    () =>
      Object.entries(curve.series)
        .filter(([name]) => !name.startsWith("band"))
        .map(([name, ys]) => ({ name, xs: curve.x, ys })),
    [curve],
  );
  const bands = Object.entries(curve.series).filter(([name]) => name.startsWith("band"));
  const [low, high] = bands.map(([, values]) => values.find((value) => value !== null));
  return (
    <Chart title={title} x={curve.xlabel} y={curve.ylabel} lines={lines} band={typeof low === "number" && typeof high === "number" ? [low, high] : undefined} />
  );
}
