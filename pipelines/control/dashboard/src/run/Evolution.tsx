/** The search of evomerge: every merge of every generation, those that nothing beats, and what the champion is made of. */
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { getModel, type Extra, type Member } from "../api/models";
import type { RunDetail } from "../api/shapes";
import { Chart, type Line } from "../kit/chart";
import { Empty, Shown } from "../kit/states";
import { Table, type Column } from "../kit/table";
import { figure, percent } from "../kit/time";
import { published } from "./artifacts";
import { KeptCurve } from "./MetricsDashboard";

export default function Evolution({ run }: { run: RunDetail }) {
  const tasks = run.tasks.filter((task) => task.phase === "evomerge");
  const final = tasks.find((task) => task.task === "evomerge") ?? tasks.find((task) => task.digests?.model);
  const digest = final && published([final])[0]?.digest;
  if (tasks.length === 0) return <Empty title="No search in this run">It shows when a run has the phase evomerge.</Empty>;
  if (!digest) return <Going run={run} />;
  return <Searched digest={digest} />;
}

/** While it searches: the best fitness that each worker has reported. */
function Going({ run }: { run: RunDetail }) {
  const workers = run.tasks.filter((task) => task.phase === "evomerge");
  return (
    <>
      <p className="notice">The search goes on: population, front and champion appear when it has ended.</p>
      <Table
        caption="Workers"
        columns={[
          { title: "task", cell: (task) => task.task },
          { title: "state", cell: (task) => task.status },
          { title: "at", cell: (task) => task.progress?.stage ?? "" },
          { title: "fitness", number: true, cell: (task) => figure(task.metrics?.fitness) },
          { title: "evaluations", number: true, cell: (task) => figure(task.metrics?.evaluations) },
        ]}
        rows={workers}
        id={(task) => task.task}
      />
    </>
  );
}

function Searched({ digest }: { digest: string }) {
  const query = useQuery({ queryKey: ["model", digest], queryFn: ({ signal }) => getModel(digest, signal), staleTime: Infinity });
  return (
    <Shown query={query} what="the search">
      {(model) => (
        <>
          <Population extra={model.extra ?? {}} />
          <div className="cards">
            {Object.entries(model.curves).map(([title, curve]) => (
              <KeptCurve key={title} title={title} curve={curve} />
            ))}
          </div>
          <Front extra={model.extra ?? {}} />
          <Champion extra={model.extra ?? {}} />
        </>
      )}
    </Shown>
  );
}

function Population({ extra }: { extra: Extra }) {
  const lines = useMemo<Line[]>(() => {
    const generations = extra.population ?? [];
    const dots = generations.flatMap(({ generation, members }) =>
      members.map((member, index) => ({ x: generation + (index / Math.max(1, members.length) - 0.5) * 0.5, y: member.fitness })),
    );
    return [
      { name: "a merge", xs: dots.map(({ x }) => x), ys: dots.map(({ y }) => y), dots: true },
      { name: "best", xs: generations.map(({ generation }) => generation), ys: generations.map(({ best }) => best) },
      { name: "mean", xs: generations.map(({ generation }) => generation), ys: generations.map(({ mean }) => mean), dashed: true },
    ];
  }, [extra.population]);
  if (!extra.population?.length) return null;
  return <Chart title="Population by generation" x="generation" y="fitness, search split" lines={lines} height={260} />;
}

const MEMBER: Column<Member>[] = [
  { title: "genome", cell: (member) => <span className="mono">{member.genome.slice(0, 8)}</span> },
  { title: "method", cell: (member) => member.method },
  { title: "origin", cell: (member) => member.origin },
  { title: "fitness", number: true, cell: (member) => figure(member.fitness) },
  { title: "loss", number: true, cell: (member) => figure(member.loss) },
];

function Front({ extra }: { extra: Extra }) {
  const front = extra.pareto ?? [];
  const suites = [...new Set(front.flatMap((member) => Object.keys(member.scores)))].sort();
  const lines = useMemo<Line[]>(
    () => front.map((member) => ({ name: `${member.method} ${member.genome.slice(0, 6)}`, xs: suites.map((_, index) => index), ys: suites.map((suite) => member.scores[suite] ?? null) })),
    [extra.pareto],
  );
  if (front.length === 0) return null;
  return (
    <section className="stack">
      <h2>Pareto front</h2>
      <p className="soft">No other merge beats one of these on one task without losing on another. {front.length} of them.</p>
      {front.length > 1 && <Chart title="Accuracy by task" x="task" y={suites.map((suite, index) => `${index} ${suite}`).join(" · ")} lines={lines.slice(0, 8)} />}
      <Table
        caption="Pareto front"
        columns={[...MEMBER, ...suites.map((suite): Column<Member> => ({ title: suite, number: true, cell: (member) => figure(member.scores[suite]) }))]}
        rows={front}
        id={(member) => member.genome}
      />
    </section>
  );
}

function Champion({ extra }: { extra: Extra }) {
  const { champion, shares } = extra;
  if (!champion) return null;
  const parents = Object.entries(shares?.parents ?? {});
  return (
    <section className="card stack">
      <h2>The champion</h2>
      <Table caption="The champion" columns={MEMBER} rows={[champion]} id={(member) => member.genome} />
      {shares && (
        <>
          <h3>How much of each parent is in it, layer by layer</h3>
          <Table
            caption="Shares of the parents"
            columns={[
              { title: "layers", cell: (index: number) => shares.groups[index] },
              ...parents.map(([name, row]): Column<number> => ({ title: name, number: true, cell: (index) => percent(row[index] ?? 0) })),
            ]}
            rows={shares.groups.map((_, index) => index)}
            id={(index) => index}
          />
        </>
      )}
      <details>
        <summary>Its genes</summary>
        <pre tabIndex={0}>{JSON.stringify(champion.genes ?? {}, null, 1)}</pre>
      </details>
    </section>
  );
}
