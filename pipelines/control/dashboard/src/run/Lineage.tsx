/** What the run's artifacts were made of, as the tasks say it. */
import { useMemo } from "react";
import type { RunDetail } from "../api/shapes";
import { Empty } from "../kit/states";
import { Graph, type Node } from "../models/graph";

export default function Lineage({ run }: { run: RunDetail }) {
  const nodes = useMemo(() => nodesOf(run), [run.tasks]);
  if (nodes.length === 0) return <Empty title="No artifact yet">The first appears when a task has ended.</Empty>;
  return <Graph title="Lineage of the run" nodes={nodes} here="" />;
}

function nodesOf(run: RunDetail): Node[] {
  return run.tasks.flatMap((task) => {
    const parents = Object.values(task.input_digests ?? {}).flat();
    return Object.values(task.digests ?? {}).map((digest) => ({
      digest,
      label: task.task,
      detail: task.phase,
      parents,
      href: `/ui/models/${digest}`,
    }));
  });
}
