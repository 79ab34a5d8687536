import { State } from "../kit/badge";
import { Table } from "../kit/table";
import { bytes, duration, figure } from "../kit/time";
import type { Plan } from "./api";

/** What a run would do, before it does. */
export function PlanShown({ plan }: { plan: Plan }) {
  const counts = new Map<string, number>();
  for (const task of plan.tasks) counts.set(task.fate, (counts.get(task.fate) ?? 0) + 1);
  return (
    <section className="card stack" aria-label="The plan">
      <h2>What would be done</h2>
      <dl className="facts">
        <div><dt>tasks</dt><dd>{[...counts].map(([fate, count]) => `${count} ${fate}`).join(", ") || "none"}</dd></div>
        <div><dt>time</dt><dd>{plan.seconds === null ? "no earlier run tells" : duration(plan.seconds)}</dd></div>
        <div><dt>memory</dt><dd>{bytes(plan.memory_bytes)}</dd></div>
        <div><dt>core hours</dt><dd>{figure(plan.cost.core_hours)}</dd></div>
        <div><dt>GPUs</dt><dd>{plan.gpus}</dd></div>
        <div><dt>at the same time</dt><dd>{plan.slots}</dd></div>
        <div><dt>seed</dt><dd>{plan.seed ?? "–"}</dd></div>
      </dl>
      {plan.ignored.length > 0 && <p className="soft">Without meaning here: {plan.ignored.join(", ")}.</p>}
      <details>
        <summary>Task by task</summary>
        <Table
          caption="Tasks of the plan"
          columns={[
            { title: "task", cell: (task) => task.name },
            { title: "phase", cell: (task) => task.phase },
            { title: "will be", cell: (task) => <State state={task.fate} /> },
            { title: "took before", number: true, cell: (task) => duration(task.seconds) },
            { title: "after", wide: true, cell: (task) => task.depends_on.join(", ") },
          ]}
          rows={plan.tasks}
          id={(task) => task.name}
        />
      </details>
    </section>
  );
}
