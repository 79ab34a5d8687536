/** Up to twenty runs side by side: curves over one another, all last values, settings that differ, claims with intervals. */
import { useQueries, useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { Link } from "wouter";
import { compareRuns, getSeries, type Comparison } from "../api/metrics";
import { getRun, listRuns } from "../api/queries";
import type { RunDetail } from "../api/shapes";
import { Action } from "../kit/action";
import { useChoice } from "../kit/address";
import { State } from "../kit/badge";
import { Chart } from "../kit/chart";
import { differences, flat, shown } from "../kit/flat";
import { Empty, Shown } from "../kit/states";
import { Table, type Column } from "../kit/table";
import { Tabs } from "../kit/tabs";
import { bytes, duration, figure, score } from "../kit/time";

const MOST = 20;
const TABS = [
  ["metrics", "Metrics"],
  ["settings", "Settings"],
  ["claims", "Claims"],
  ["runs", "Runs"],
] as const;

export default function ComparePage() {
  const [choice, choose] = useChoice();
  const runs = useMemo(() => (choice.runs ?? "").split(",").filter(Boolean).slice(0, MOST), [choice.runs]);
  const tab = TABS.find(([name]) => name === choice.tab)?.[0] ?? "metrics";
  const query = useQuery({ queryKey: ["compare", runs], queryFn: ({ signal }) => compareRuns(runs, signal), enabled: runs.length > 0 });
  return (
    <>
      <h1>Compare</h1>
      <Picked runs={runs} pick={(next) => choose({ runs: next.join(",") })} />
      {runs.length === 0 ? (
        <Empty title="No run is chosen">Add runs above, or tick them in the list of runs and press c.</Empty>
      ) : (
        <Tabs label="Compare" tabs={TABS} chosen={tab} choose={(name) => choose({ tab: name })}>
          {tab === "settings" ? (
            <SettingsOf runs={runs} />
          ) : tab === "runs" ? (
            <RunsOf runs={runs} />
          ) : (
            <Shown query={query} what="the comparison">
              {(comparison) => (tab === "metrics" ? <MetricsOf comparison={comparison} /> : <ClaimsOf comparison={comparison} />)}
            </Shown>
          )}
        </Tabs>
      )}
    </>
  );
}

function Picked({ runs, pick }: { runs: string[]; pick: (runs: string[]) => void }) {
  const [text, type] = useState("");
  const found = useQuery({ queryKey: ["runs", "names", text], queryFn: ({ signal }) => listRuns({ q: text, limit: "20" }, signal) });
  const others = (found.data?.runs ?? []).filter((run) => !runs.includes(run.id));
  return (
    <div className="row">
      {runs.map((run) => (
        <span key={run} className="tag">
          <Link href={`/ui/runs/${encodeURIComponent(run)}`}>{run}</Link>
          <button type="button" aria-label={`Take ${run} out`} onClick={() => pick(runs.filter((other) => other !== run))}>
            ×
          </button>
        </span>
      ))}
      <form
        className="row"
        onSubmit={(event) => {
          event.preventDefault();
          const run = others.find((one) => one.id === text) ?? others[0];
          if (run && runs.length < MOST) pick([...runs, run.id]);
          type("");
        }}
      >
        <input list="runs" data-search aria-label="Add a run" placeholder="Add a run   /" value={text} onChange={(event) => type(event.target.value)} />
        <datalist id="runs">
          {others.map((run) => (
            <option key={run.id} value={run.id} />
          ))}
        </datalist>
        <Action type="submit" why={runs.length >= MOST ? `${MOST} at most` : others.length ? "" : "no other run fits"}>
          Add
        </Action>
      </form>
    </div>
  );
}

/** Above a run's name in a column: short, with all of it as the title. */
const header = (run: string): string => (run.length > 22 ? `${run.slice(0, 10)}…${run.slice(-11)}` : run);

function MetricsOf({ comparison }: { comparison: Comparison }) {
  const [choice, choose] = useChoice();
  const [text, search] = useState("");
  const [differing, only] = useState(false);
  const names = useMemo(() => [...new Set(comparison.metrics.map((metric) => metric.metric_name))], [comparison]);
  const wanted = choice.metric && names.includes(choice.metric) ? choice.metric : (names.find((name) => /loss$/.test(name)) ?? names[0] ?? "");
  const rows = comparison.metrics.filter(
    (metric) => `${metric.phase} ${metric.task} ${metric.metric_name}`.toLowerCase().includes(text.toLowerCase()) && (!differing || metric.differs),
  );
  if (names.length === 0) return <Empty title="These runs have measured nothing yet">Metrics appear when a phase has begun.</Empty>;
  const columns: Column<Comparison["metrics"][number]>[] = [
    { title: "phase", cell: (row) => row.phase },
    { title: "task", cell: (row) => row.task },
    {
      title: "metric",
      cell: (row) => (
        <button type="button" className="button quiet" onClick={() => choose({ metric: row.metric_name })}>
          {row.metric_name}
        </button>
      ),
    },
    ...comparison.runs.map((run): Column<Comparison["metrics"][number]> => ({ title: header(run), number: true, cell: (row) => figure(row.values[run]) })),
  ];
  return (
    <>
      <Overlay runs={comparison.runs} name={wanted} names={names} choose={(metric) => choose({ metric })} />
      <div className="row">
        <input type="search" className="grow" aria-label="Find a metric" placeholder="Find a metric" value={text} onChange={(event) => search(event.target.value)} />
        <label className="check">
          <input type="checkbox" checked={differing} onChange={(event) => only(event.target.checked)} /> only what differs
        </label>
        <span className="soft small">{rows.length} of {comparison.metrics.length}</span>
      </div>
      <Table caption="Last values" columns={columns} rows={rows.slice(0, 500)} id={(row) => `${row.phase} ${row.task} ${row.metric_name}`} empty="None fits." />
    </>
  );
}

function Overlay({ runs, name, names, choose }: { runs: string[]; name: string; names: string[]; choose: (name: string) => void }) {
  const query = useQuery({
    queryKey: ["overlay", runs, name],
    queryFn: ({ signal }) => getSeries({ run: runs.join(","), metric_name: name, points: 1000 }, signal),
  });
  const lines = useMemo(
    () => (query.data?.series ?? []).map((one) => ({ name: runs.length > 1 ? `${header(one.run)} ${one.task}` : one.task, xs: one.steps, ys: one.values })),
    [query.data, runs],
  );
  return (
    <>
      <div className="row">
        <select aria-label="metric" value={name} onChange={(event) => choose(event.target.value)}>
          {names.map((one) => (
            <option key={one}>{one}</option>
          ))}
        </select>
      </div>
      <Shown query={query} what="the curves">{() => <Chart title={name} x="step" y="" lines={lines} height={260} />}</Shown>
    </>
  );
}

function useRuns(runs: string[]): RunDetail[] {
  const all = useQueries({ queries: runs.map((run) => ({ queryKey: ["run", run], queryFn: () => getRun(run), staleTime: 30_000 })) });
  return all.flatMap(({ data }) => (data ? [data] : []));
}

function SettingsOf({ runs }: { runs: string[] }) {
  const details = useRuns(runs);
  const rows = useMemo(() => {
    const all = details.map((run) => flat({ seed: run.seed, profile: run.profile, ...run.parameters }));
    const first = all[0] ?? new Map<string, unknown>();
    const names = new Set(all.slice(1).flatMap((other) => differences(first, other).map(({ name }) => name)));
    return [...names].sort().map((name) => ({ name, values: all.map((one) => one.get(name)) }));
  }, [details]);
  if (details.length < 2) return <Empty title="One run differs from none">Add another.</Empty>;
  return (
    <Table
      caption="Settings that differ"
      empty="None: the runs were given the same."
      columns={[
        { title: "setting", cell: (row) => <span className="mono">{row.name}</span> },
        ...details.map((run, index): Column<{ name: string; values: unknown[] }> => ({
          title: header(run.id),
          wide: true,
          cell: (row) => <span className="mono">{shown(row.values[index]).slice(0, 300)}</span>,
        })),
      ]}
      rows={rows}
      id={(row) => row.name}
    />
  );
}

function RunsOf({ runs }: { runs: string[] }) {
  return (
    <Table
      caption="Runs"
      columns={[
        { title: "run", cell: (run: RunDetail) => <Link href={`/ui/runs/${encodeURIComponent(run.id)}`}>{run.id}</Link> },
        { title: "state", cell: (run) => <State state={run.state} /> },
        { title: "profile", cell: (run) => run.profile },
        { title: "seed", number: true, cell: (run) => run.seed ?? "–" },
        { title: "took", number: true, cell: (run) => duration(run.started && run.finished ? run.finished - run.started : null) },
        { title: "by", cell: (run) => run.owner_name || run.origin },
        { title: "why", wide: true, cell: (run) => run.why },
      ]}
      rows={useRuns(runs)}
      id={(run) => run.id}
      empty="Loading …"
    />
  );
}

function ClaimsOf({ comparison }: { comparison: Comparison }) {
  const models = comparison.models;
  const suites = [...new Set(models.flatMap((model) => Object.keys(model.results)))].sort();
  const claims = models.flatMap((model) => model.claims.map((claim) => ({ ...claim, run: model.run, phase: model.phase })));
  if (models.length === 0) return <Empty title="These runs have no model yet">Claims are in the manifests of models.</Empty>;
  return (
    <>
      <h2>Scores, with their intervals</h2>
      <Table
        caption="Scores"
        columns={[
          { title: "run", cell: (model) => header(model.run) },
          { title: "phase", cell: (model) => <Link href={`/ui/models/${model.digest}`}>{model.phase}</Link> },
          { title: "size", number: true, cell: (model) => bytes(model.bytes) },
          { title: "overall, guessing is 0", number: true, cell: ({ overall }) => score(overall?.score, overall?.low, overall?.high) },
          ...suites.map((suite): Column<(typeof models)[number]> => ({
            title: suite,
            number: true,
            cell: (model) => {
              const result = model.results[suite];
              return result ? score(result.score, result.low, result.high) : (model.unreadable && "unreadable") || "–";
            },
          })),
        ]}
        rows={models}
        id={(model) => `${model.run} ${model.phase}`}
      />
      <h2>Claims beside their controls</h2>
      <Table
        caption="Claims"
        empty="None is made."
        columns={[
          { title: "phase", cell: (claim) => claim.phase },
          { title: "claim", wide: true, cell: (claim) => claim.claim },
          { title: "run", cell: (claim) => header(claim.run) },
          { title: "value", number: true, cell: (claim) => figure(claim.value) },
          { title: "control", number: true, cell: (claim) => figure(claim.control_value) },
          { title: "difference", number: true, cell: (claim) => (claim.difference_low === undefined ? "–" : `${figure(claim.difference)} [${figure(claim.difference_low)}, ${figure(claim.difference_high)}]`) },
          { title: "unit", cell: (claim) => claim.unit },
          { title: "holds", cell: (claim) => <span className={claim.holds ? "good-text" : "bad-text"}>{claim.holds ? "yes" : "no"}</span> },
        ]}
        rows={[...claims].sort((a, b) => a.phase.localeCompare(b.phase) || a.claim.localeCompare(b.claim) || a.run.localeCompare(b.run))}
        id={(claim, index) => `${claim.run} ${claim.phase} ${index}`}
      />
    </>
  );
}
