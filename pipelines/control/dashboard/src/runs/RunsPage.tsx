/** All runs, the newest first: a window over pages that are read as one scrolls. */
import { useInfiniteQuery, useQueryClient, type InfiniteData } from "@tanstack/react-query";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { Link, useLocation } from "wouter";
import { listRuns } from "../api/queries";
import { forbidden } from "../api/session";
import type { Page } from "../api/shapes";
import { useChoice } from "../kit/address";
import { Action } from "../kit/action";
import { useNow } from "../kit/now";
import { Empty, Shown } from "../kit/states";
import { say, sayProblem } from "../kit/toast";
import { useRunsHint } from "../live/use";
import { useShortcuts } from "../shell/keys";
import { Filters, Views } from "./filters";
import { withFirst } from "./merge";
import { RunRow } from "./row";

const PAGE = "100";
const COMPARED = 20;
const NARROW = matchMedia("(max-width: 900px)");

export default function RunsPage() {
  const [choice, choose] = useChoice();
  const [, go] = useLocation();
  const client = useQueryClient();
  const now = useNow(5);
  const [at, move] = useState(0);
  const [chosen, become] = useState<Set<string>>(new Set());
  const key = useMemo(() => ["runs", "list", choice], [JSON.stringify(choice)]);
  const query = useInfiniteQuery({
    queryKey: key,
    queryFn: ({ pageParam, signal }) => listRuns({ ...choice, limit: PAGE, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next ?? undefined,
    staleTime: Infinity, // hints say when it has changed
  });
  const runs = useMemo(() => query.data?.pages.flatMap((page) => page.runs) ?? [], [query.data]);

  const refresh = useCallback(() => {
    listRuns({ ...choice, limit: PAGE }).then((fresh) => {
      client.setQueryData<InfiniteData<Page>>(key, (old) => {
        if (!old) return old;
        const pages = withFirst(old.pages, fresh);
        return { pages, pageParams: old.pageParams.slice(0, pages.length) };
      });
    }, sayProblem);
  }, [client, key]);
  useRunsHint(refresh);
  useEffect(refresh, [refresh]);

  const toggle = useCallback((run: string) => {
    become((old) => {
      const next = new Set(old);
      if (!next.delete(run)) next.add(run);
      if (next.size <= COMPARED) return next;
      say(`${COMPARED} runs are compared at most`, true);
      return old;
    });
  }, []);
  const open = (): void => {
    const run = runs[at];
    if (run) go(`/ui/runs/${encodeURIComponent(run.id)}`);
  };
  const step = (by: number) => (): void => move((old) => Math.max(0, Math.min(runs.length - 1, old + by)));
  useShortcuts([
    { keys: "j", what: "Next row", act: step(1) },
    { keys: "k", what: "Row before", act: step(-1) },
    { keys: "Enter", what: "Open the row", act: open },
    { keys: "x", what: "Choose the row for comparing", act: () => runs[at] && toggle(runs[at].id) },
    { keys: "c", what: "Compare what is chosen", act: () => chosen.size > 1 && go(compared(chosen)) },
  ]);
  const few = chosen.size < 2 ? "choose two runs or more in the list" : "";
  return (
    <>
      <div className="row spread">
        <h1>Runs</h1>
        <div className="row">
          <Action why={few} onClick={() => go(compared(chosen))}>
            Compare{chosen.size ? ` ${chosen.size}` : ""}
          </Action>
          <Action kind="primary" why={forbidden("phases", "execute")} onClick={() => go("/ui/new")}>
            New run
          </Action>
        </div>
      </div>
      <Views choice={choice} />
      <Filters choice={choice} choose={choose} />
      <Shown query={query} what="the runs">
        {() =>
          runs.length === 0 ? (
            <Nothing filtered={Object.keys(choice).length > 0} />
          ) : (
            <List
              runs={runs}
              at={at}
              now={now}
              chosen={chosen}
              toggle={toggle}
              more={query.hasNextPage && !query.isFetchingNextPage ? () => void query.fetchNextPage() : undefined}
              whole={!query.hasNextPage}
            />
          )
        }
      </Shown>
    </>
  );
}

const compared = (chosen: Set<string>): string => `/ui/compare?runs=${[...chosen].map(encodeURIComponent).join(",")}`;

function Nothing({ filtered }: { filtered: boolean }) {
  if (filtered) return <Empty title="No run fits">Clear the filters to see all runs.</Empty>;
  return (
    <Empty title="There is no run yet">
      Start one: <Link href="/ui/new">New run</Link>, or <code>forge run-pipeline --profile tiny</code> in a terminal; it shows up here.
    </Empty>
  );
}

interface ListProps {
  runs: Page["runs"];
  at: number;
  now: number;
  chosen: Set<string>;
  toggle: (run: string) => void;
  more: (() => void) | undefined;
  whole: boolean;
}

function List({ runs, at, now, chosen, toggle, more, whole }: ListProps) {
  const holder = useRef<HTMLDivElement>(null);
  const [narrow, became] = useState(NARROW.matches);
  useEffect(() => {
    const changed = (): void => became(NARROW.matches);
    NARROW.addEventListener("change", changed);
    return () => NARROW.removeEventListener("change", changed);
  }, []);
  const height = narrow ? 104 : 58;
  const rows = useVirtualizer({ count: runs.length, getScrollElement: () => holder.current, estimateSize: () => height, overscan: 8 });
  const items = rows.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;
  useEffect(() => rows.measure(), [rows, height]);
  useEffect(() => {
    if (last >= runs.length - 20) more?.();
  }, [last, runs.length, more]);
  useEffect(() => rows.scrollToIndex(at), [rows, at]);
  return (
    <div className="list" ref={holder} role="table" aria-label="Runs" aria-rowcount={whole ? runs.length + 1 : -1} tabIndex={0}>
      <div className="run head" role="row" aria-rowindex={1}>
        {["compare", "run", "state", "phases", "why", "by", "when"].map((title) => (
          <span key={title} role="columnheader" className={title === "when" ? "n" : undefined}>
            {title === "compare" ? <span className="unseen">compare</span> : title}
          </span>
        ))}
      </div>
      <div className="all" role="rowgroup" ref={(element) => void (element && (element.style.height = `${rows.getTotalSize()}px`))}>
        {items.map((item) => {
          const run = runs[item.index];
          if (!run) return null;
          return (
            <RunRow key={run.id} run={run} top={item.start} index={item.index} here={item.index === at} chosen={chosen.has(run.id)} choose={toggle} now={now} />
          );
        })}
      </div>
    </div>
  );
}
