/** What the run's artifacts were made of, as the tasks say it. */
import { useMemo } from "react";
import type { RunDetail } from "../api/shapes";
import { Empty } from "../kit/states";
import { published } from "./artifacts";
import { Graph, type Node } from "../models/graph";

export default function Lineage({ run }: { run: RunDetail }) {
  const nodes = useMemo(() => nodesOf(run), [run.tasks]);
  if (nodes.length === 0) return <Empty title="No artifact yet">The first appears when a task has ended.</Empty>;
  return <Graph title="Lineage of the run" nodes={nodes} here="" />;
}

function nodesOf(run: RunDetail): Node[] {
  return published(run.tasks).map(({ digest, task }) => ({
    digest,
    label: task.task,
    detail: task.phase,
    parents: Object.values(task.input_digests ?? {}).flat(),
    href: `/ui/models/${digest}`,
  }));
}
