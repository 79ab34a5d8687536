import { memo } from "react";
import { Link } from "wouter";
import type { Run } from "../api/shapes";
import { State } from "../kit/badge";
import { ended } from "../kit/phases";
import { Strip } from "../kit/strip";
import { duration, exactly, moment } from "../kit/time";

interface Props {
  run: Run;
  top: number;
  here: boolean;
  chosen: boolean;
  choose: (run: string) => void;
  now: number;
  index: number;
}

/** Why it waits or has failed: the first thing that somebody wants to know of it. */
export function reasonOf(run: Run): string {
  const error = run.error ? [run.error.what, run.error.why].filter(Boolean).join(": ") : "";
  if (run.state === "failed") return [run.failing, error || run.why].filter(Boolean).join(" · ");
  return run.why || error;
}

export const RunRow = memo(function RunRow({ run, top, here, chosen, choose, now, index }: Props) {
  const reason = reasonOf(run);
  const over = ended(run.state);
  const spent = run.started ? (run.finished ?? now) - run.started : null;
  return (
    <div className={here ? "run at" : "run"} role="row" aria-rowindex={index + 2} ref={(element) => void (element && (element.style.transform = `translateY(${top}px)`))}>
      <span role="cell">
        <input type="checkbox" checked={chosen} onChange={() => choose(run.id)} aria-label={`Compare ${run.id}`} />
      </span>
      <span className="two" role="cell">
        <Link href={`/ui/runs/${encodeURIComponent(run.id)}`} className="name" title={run.id}>
          {run.id}
        </Link>
        <span className="soft small">
          {[run.profile, run.seed !== null && `seed ${run.seed}`, run.target !== "local" && run.target, run.pinned && "pinned"].filter(Boolean).join(" · ")}
        </span>
      </span>
      <span role="cell">
        <State state={run.state} />
      </span>
      <span className="phases" role="cell">
        <Strip phases={run.phases} />
      </span>
      <span className={`reason ${run.state === "failed" || run.state === "lost" ? "bad-text" : "soft"}`} role="cell" title={reason}>
        {reason}
      </span>
      <span className="owner soft small cut" role="cell" title={run.owner_name || "the command line"}>
        {run.owner_name || (run.origin === "command" ? "command line" : "–")}
      </span>
      <span className="two n time" role="cell" title={exactly(run.created)}>
        <span>{moment(run.created)}</span>
        <span className="soft small">{over || !run.eta ? duration(spent) : `${duration(Math.max(0, run.eta - now))} left`}</span>
      </span>
    </div>
  );
});
