import { useInfiniteQuery } from "@tanstack/react-query";
import { ask } from "../api/client";
import { forbidden } from "../api/session";
import { Action } from "../kit/action";
import { Empty, Shown } from "../kit/states";
import { Table } from "../kit/table";
import { exactly, moment } from "../kit/time";

interface Row {
  id: number;
  time: number;
  name: string;
  action: string;
  object: string;
  outcome: string;
  address: string;
  request_id: string;
}

/** What was done and what was refused, the newest first. */
export function Audit() {
  const why = forbidden("audit", "read");
  const query = useInfiniteQuery({
    queryKey: ["audit"],
    queryFn: ({ pageParam, signal }) => ask<{ rows: Row[]; next: number | null }>("get", "/auth/audit", { query: { cursor: pageParam }, signal }),
    initialPageParam: "" as number | string,
    getNextPageParam: (page) => page.next ?? undefined,
    enabled: !why,
  });
  if (why) return <Empty title="The audit is not for you">{why}.</Empty>;
  return (
    <Shown query={query} what="the audit">
      {(data) => (
        <>
          <Table
            caption="Audit"
            columns={[
              { title: "time", cell: (row: Row) => <span title={exactly(row.time)}>{moment(row.time)}</span> },
              { title: "who", cell: (row) => row.name || "unknown" },
              { title: "what", cell: (row) => <span className="mono">{row.action}</span> },
              { title: "of", wide: true, cell: (row) => <span className="mono">{row.object}</span> },
              { title: "outcome", cell: (row) => row.outcome },
              { title: "from", cell: (row) => row.address },
            ]}
            rows={data.pages.flatMap((page) => page.rows)}
            id={(row) => row.id}
          />
          {query.hasNextPage && <Action onClick={() => void query.fetchNextPage()}>Show more</Action>}
        </>
      )}
    </Shown>
  );
}
