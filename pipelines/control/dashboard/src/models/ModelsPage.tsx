/** The catalogue: all artifacts that runs have made, or that were imported. */
import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { importModels, listModels, type Model } from "../api/models";
import { forbidden } from "../api/session";
import { Action } from "../kit/action";
import { useChoice } from "../kit/address";
import { Dialog } from "../kit/dialog";
import { PHASES } from "../kit/phases";
import { Empty, Shown } from "../kit/states";
import { Table } from "../kit/table";
import { amount, bytes, exactly, moment, score } from "../kit/time";
import { say, sayProblem } from "../kit/toast";

export default function ModelsPage() {
  const [choice, choose] = useChoice();
  const [importing, open] = useState(false);
  const query = useInfiniteQuery({
    queryKey: ["models", choice],
    queryFn: ({ pageParam, signal }) => listModels({ ...choice, limit: 50, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next ?? undefined,
  });
  const models = query.data?.pages.flatMap((page) => page.models) ?? [];
  return (
    <>
      <div className="row spread">
        <h1>Models</h1>
        <Action why={forbidden("models", "write")} onClick={() => open(true)}>
          Import
        </Action>
      </div>
      <div className="row" role="search" aria-label="Models">
        <input
          type="search"
          data-search
          className="grow"
          aria-label="Run, task, variant, tag or digest"
          placeholder="Run, task, variant, tag or digest   /"
          defaultValue={choice.q ?? ""}
          onChange={(event) => choose({ q: event.target.value })}
        />
        <select aria-label="phase" value={choice.phase ?? ""} onChange={(event) => choose({ phase: event.target.value })}>
          <option value="">phase: any</option>
          {PHASES.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
        <select aria-label="order" value={choice.order ?? ""} onChange={(event) => choose({ order: event.target.value })}>
          <option value="">newest first</option>
          <option value="score">best first</option>
          <option value="bytes">largest first</option>
        </select>
        <label className="check">
          <input type="checkbox" checked={choice.pinned === "true"} onChange={(event) => choose({ pinned: event.target.checked ? "true" : "" })} /> pinned
        </label>
        {choice.run && (
          <span className="tag">
            run {choice.run}
            <button type="button" aria-label="Models of all runs" onClick={() => choose({ run: "" })}>
              ×
            </button>
          </span>
        )}
        {choice.tag && (
          <span className="tag">
            {choice.tag}
            <button type="button" aria-label="Models with any tag" onClick={() => choose({ tag: "" })}>
              ×
            </button>
          </span>
        )}
      </div>
      <Shown query={query} what="the models">
        {() =>
          models.length === 0 ? (
            <Empty title={Object.keys(choice).length ? "No model fits" : "There is no model yet"}>
              {Object.keys(choice).length ? "Ask for less above." : "Each phase of a run publishes one; or import some."}
            </Empty>
          ) : (
            <>
              <Table
                caption="Models"
                columns={[
                  {
                    title: "model",
                    cell: (model: Model) => (
                      <Link href={`/ui/models/${model.digest}`}>
                        <b>{model.variant || model.phase}</b> <span className="mono">{model.digest.slice(0, 8)}</span>
                      </Link>
                    ),
                  },
                  { title: "phase", cell: (model) => model.phase },
                  { title: "run", cell: (model) => (model.run ? <Link href={`/ui/runs/${encodeURIComponent(model.run)}`}>{model.run}</Link> : "imported") },
                  { title: "score", number: true, cell: (model) => score(model.score) },
                  { title: "parameters", number: true, cell: (model) => amount(model.parameters) },
                  { title: "size", number: true, cell: (model) => bytes(model.bytes) },
                  { title: "made", number: true, cell: (model) => <span title={exactly(model.finished)}>{moment(model.finished)}</span> },
                  {
                    title: "tags",
                    cell: (model) => (
                      <span className="row">
                        {model.pinned && <span className="tag">pinned</span>}
                        {model.tags.map((tag) => (
                          <Link key={tag} className="tag" href={`/ui/models?tag=${encodeURIComponent(tag)}`}>
                            {tag}
                          </Link>
                        ))}
                      </span>
                    ),
                  },
                ]}
                rows={models}
                id={(model) => model.digest}
              />
              {query.hasNextPage && (
                <Action why={query.isFetchingNextPage ? "they are on their way" : ""} onClick={() => void query.fetchNextPage()}>
                  Show more
                </Action>
              )}
            </>
          )
        }
      </Shown>
      {importing && <Import close={() => open(false)} />}
    </>
  );
}

function Import({ close }: { close: () => void }) {
  const client = useQueryClient();
  const [address, write] = useState("");
  return (
    <Dialog title="Import models" close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          importModels(address).then(() => {
            say("imported");
            void client.invalidateQueries({ queryKey: ["models"] });
            close();
          }, sayProblem);
        }}
      >
        <label className="field">
          <span>Where they lie: below the runs, or in the store of this server</span>
          <input autoFocus value={address} onChange={(event) => write(event.target.value)} placeholder="s3://bucket/prefix" />
        </label>
        <div className="row end">
          <Action onClick={close}>Close</Action>
          <Action type="submit" kind="primary" why={address ? "" : "say where they lie"}>
            Import
          </Action>
        </div>
      </form>
    </Dialog>
  );
}
