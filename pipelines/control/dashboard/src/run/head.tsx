import { Link } from "wouter";
import type { RunDetail } from "../api/shapes";
import { State } from "../kit/badge";
import { ended } from "../kit/phases";
import { bytes, duration, exactly, moment } from "../kit/time";
import { reasonOf } from "../runs/row";
import { RunActions } from "./actions";

/** Seconds of CPU and the largest memory of the tasks so far. */
function cost(run: RunDetail): { cpu: number; memory: number } {
  return {
    cpu: run.tasks.reduce((sum, task) => sum + (task.cpu_seconds ?? 0), 0),
    memory: Math.max(0, ...run.tasks.map((task) => task.peak_memory_bytes ?? 0)),
  };
}

export function Head({ run, now }: { run: RunDetail; now: number }) {
  const over = ended(run.state);
  const { cpu, memory } = cost(run);
  const spent = run.started ? (run.finished ?? now) - run.started : null;
  const reason = reasonOf(run);
  return (
    <header className="stack">
      <div className="row spread">
        <div className="row">
          <h1>{run.id}</h1>
          <State state={run.state} />
        </div>
        <RunActions run={run} />
      </div>
      <dl className="facts">
        <Fact name="by">{run.owner_name || (run.origin === "command" ? "the command line" : run.owner || "–")}</Fact>
        <Fact name="profile">{run.profile || "–"}</Fact>
        <Fact name="seed">{run.seed ?? "–"}</Fact>
        <Fact name="where">{run.target}</Fact>
        <Fact name="begun" title={exactly(run.started)}>
          {moment(run.started)}
        </Fact>
        <Fact name={over ? "took" : "so far"}>{duration(spent)}</Fact>
        {!over && (
          <Fact name="may end" title={exactly(run.eta)}>
            {run.eta ? `${moment(run.eta)} (${duration(Math.max(0, run.eta - now))})` : "no earlier run tells"}
          </Fact>
        )}
        <Fact name="CPU">{duration(cpu || null)}</Fact>
        <Fact name="memory">{memory ? bytes(memory) : "–"}</Fact>
        {run.gpus > 0 && <Fact name="GPUs">{run.gpus}</Fact>}
        <Fact name="elsewhere">
          <span className="row">
            {run.links.kfp && (
              <a href={run.links.kfp} rel="noreferrer" target="_blank">
                Kubeflow
              </a>
            )}
            {run.links.mlflow && (
              <a href={run.links.mlflow} rel="noreferrer" target="_blank">
                MLflow
              </a>
            )}
            <Link href={`/ui/compare?runs=${encodeURIComponent(run.id)}`}>compare</Link>
            <Link href={`/ui/models?run=${encodeURIComponent(run.id)}`}>models</Link>
          </span>
        </Fact>
      </dl>
      {reason && <p className={run.state === "failed" || run.state === "lost" ? "state trouble" : "notice"}>{reason}</p>}
      {run.error?.fix && <p>What to do: {run.error.fix}.</p>}
    </header>
  );
}

function Fact({ name, title, children }: { name: string; title?: string; children: React.ReactNode }) {
  return (
    <div title={title || undefined}>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
