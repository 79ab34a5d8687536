/** What a page shows in place of its content: nothing there yet, on its way, gone wrong. Each says what to do. */
import type { ReactNode } from "react";
import { asProblem } from "../api/problem";
import { Action } from "./action";

export function Loading({ what }: { what: string }) {
  return (
    <p className="state soft" role="status">
      <span className="spinner" aria-hidden="true" /> Loading {what} …
    </p>
  );
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="state">
      <p className="strong">{title}</p>
      {children && <div className="soft">{children}</div>}
    </div>
  );
}

export function Trouble({ error, again }: { error: unknown; again?: () => void }) {
  const problem = asProblem(error);
  const { where, why, fix, request_id: request } = problem.detail;
  return (
    <div className="state trouble" role="alert">
      <p className="strong">{problem.what}</p>
      {why && <p>{why}</p>}
      {where && <p className="mono soft">{where}</p>}
      {fix && <p>What to do: {fix}.</p>}
      {request && <p className="soft small">request {request}</p>}
      {again && <Action onClick={again}>Try again</Action>}
    </div>
  );
}

interface Asked<Data> {
  data: Data | undefined;
  error: unknown;
  isPending: boolean;
  refetch: () => unknown;
}

/** A query's content, or what stands in its place. Old content stays while newer fails to come. */
export function Shown<Data>({ query, what, children }: { query: Asked<Data>; what: string; children: (data: Data) => ReactNode }) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.error) return <Trouble error={query.error} again={() => void query.refetch()} />;
  return <Loading what={what} />;
}
