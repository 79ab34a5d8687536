/** One model, to the last tensor: what it scores, what was claimed, how it is coded, where it comes from. */
import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useMemo, useState, type FormEvent } from "react";
import { Link, useLocation } from "wouter";
import { deleteModel, deployModel, getLineage, getModel, getTensors, pinModel, tagModel, type Model, type ModelDetail } from "../api/models";
import { Action } from "../kit/action";
import { useChoice } from "../kit/address";
import { Confirm } from "../kit/dialog";
import { Shown } from "../kit/states";
import { Table, type Column } from "../kit/table";
import { Tabs } from "../kit/tabs";
import { amount, bytes, duration, exactly, figure, moment, score } from "../kit/time";
import { say, sayProblem } from "../kit/toast";
import { State } from "../kit/badge";
import { Graph } from "./graph";

const TABS = [
  ["scores", "Scores and gates"],
  ["tensors", "Tensors"],
  ["lineage", "Lineage"],
  ["manifest", "Manifest"],
] as const;

export default function ModelInspector({ digest }: { digest: string }) {
  const [choice, choose] = useChoice();
  const query = useQuery({ queryKey: ["model", digest], queryFn: ({ signal }) => getModel(digest, signal) });
  const tab = TABS.find(([name]) => name === choice.tab)?.[0] ?? "scores";
  return (
    <>
    {!query.data && <h1 className="mono">{digest.slice(0, 12)}</h1>}
    <Shown query={query} what="the model">
      {(model) => (
        <>
          <Head model={model} />
          <Tabs label="The model" tabs={TABS} chosen={tab} choose={(name) => choose({ tab: name })}>
            {tab === "scores" && <Scores model={model} />}
            {tab === "tensors" && <Tensors digest={digest} />}
            {tab === "lineage" && <Ancestors digest={digest} />}
            {tab === "manifest" && <Manifest model={model} />}
          </Tabs>
        </>
      )}
    </Shown>
    </>
  );
}

function Head({ model }: { model: ModelDetail }) {
  const client = useQueryClient();
  const [, go] = useLocation();
  const [tag, write] = useState("");
  const [deleting, open] = useState(false);
  const key = ["model", model.digest];
  const change = useMutation({
    mutationFn: (work: () => Promise<unknown>) => work(),
    onError: sayProblem,
    onSettled: () => client.invalidateQueries({ queryKey: key }),
  });
  const optimistic = (next: Partial<Model>, work: () => Promise<unknown>): void => {
    const before = client.getQueryData<ModelDetail>(key);
    client.setQueryData<ModelDetail>(key, (old) => old && { ...old, ...next });
    change.mutate(work, { onError: () => client.setQueryData(key, before) });
  };
  const why = (action: string): string => {
    const allowed = model.actions[action];
    return !allowed || allowed.allowed ? "" : allowed.why || "not now";
  };
  const addTag = (event: FormEvent): void => {
    event.preventDefault();
    const name = tag.trim();
    if (!name || why("tag")) return;
    write("");
    optimistic({ tags: [...new Set([...model.tags, name])].sort() }, () => tagModel(model.digest, name, true));
  };
  const name = `${model.variant || model.phase} ${model.digest.slice(0, 8)}`;
  return (
    <header className="stack">
      <div className="row spread">
        <h1>
          {model.variant || model.phase} <span className="mono soft">{model.digest.slice(0, 12)}</span>
        </h1>
        <div className="row" role="group" aria-label="Actions">
          <Action why={why("answer")} onClick={() => go(`/ui/playground?models=${model.digest}`)}>
            Ask it
          </Action>
          <Action why={why("pin")} aria-pressed={model.pinned} onClick={() => optimistic({ pinned: !model.pinned }, () => pinModel(model.digest, !model.pinned))}>
            {model.pinned ? "Pinned" : "Pin"}
          </Action>
          {["transformers", "gguf"].map((target) => (
            <Action key={target} why={why("deploy")} onClick={() => change.mutate(() => deployModel(model.digest, target), { onSuccess: () => say(`written for ${target}`) })}>
              For {target}
            </Action>
          ))}
          <Action kind="danger" why={why("delete")} onClick={() => open(true)}>
            Delete
          </Action>
        </div>
      </div>
      <dl className="facts">
        <Fact name="phase">{model.phase}</Fact>
        <Fact name="run">{model.run ? <Link href={`/ui/runs/${encodeURIComponent(model.run)}`}>{model.run}</Link> : "imported"}</Fact>
        <Fact name="score">{score(model.score)}</Fact>
        <Fact name="overall, guessing is 0">{score(model.overall?.score, model.overall?.low, model.overall?.high)}</Fact>
        <Fact name="parameters">{amount(model.parameters)}</Fact>
        <Fact name="size">{bytes(model.bytes)}</Fact>
        <Fact name="bits a weight">{figure(model.tensor_bits)}</Fact>
        <Fact name="made">
          <span title={exactly(model.finished)}>{moment(model.finished)}</span>
        </Fact>
        <Fact name="seed">{model.seed}</Fact>
        <Fact name="by">{model.owner_name || "the command line"}</Fact>
      </dl>
      <div className="row">
        {model.tags.map((one) => (
          <span key={one} className="tag">
            {one}
            {!why("tag") && (
              <button type="button" aria-label={`Take the tag ${one} away`} onClick={() => optimistic({ tags: model.tags.filter((other) => other !== one) }, () => tagModel(model.digest, one, false))}>
                ×
              </button>
            )}
          </span>
        ))}
        <form className="row" onSubmit={addTag}>
          <input aria-label="A new tag" placeholder="new tag" value={tag} onChange={(event) => write(event.target.value)} size={12} pattern="[A-Za-z0-9][A-Za-z0-9._:+\-]*" />
          <Action type="submit" why={why("tag") || (tag ? "" : "write it first")}>
            Tag
          </Action>
        </form>
      </div>
      {deleting && (
        <Confirm
          title="Delete this model"
          name={model.digest.slice(0, 8)}
          verb="Delete it"
          close={() => open(false)}
          confirmed={() =>
            deleteModel(model.digest).then(() => {
              say(`${name} is deleted`);
              void client.invalidateQueries({ queryKey: ["models"] });
              go("/ui/models");
            }, sayProblem)
          }
        >
          <p>{name} and its files go. This cannot be undone.</p>
        </Confirm>
      )}
    </header>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Scores({ model }: { model: ModelDetail }) {
  const samples = model.extra?.samples ?? [];
  return (
    <>
      <h2>Scores on the report split, with 95% intervals</h2>
      <Table
        caption="Scores"
        empty="It was not scored."
        columns={[
          { title: "suite", cell: ([suite]) => suite },
          { title: "score", number: true, cell: ([, result]) => score(result.score) },
          { title: "interval", number: true, cell: ([, result]) => `${score(result.low)} – ${score(result.high)}` },
          { title: "guessing", number: true, cell: ([, result]) => score(result.chance) },
          { title: "items", number: true, cell: ([, result]) => result.n },
          { title: "better than guessing", cell: ([, result]) => (result.chance !== undefined && result.low > result.chance ? <span className="good-text">yes</span> : <span className="soft">not shown</span>) },
        ]}
        rows={Object.entries(model.results)}
        id={([suite]) => suite}
      />
      <h2>Quality gates</h2>
      <Table
        caption="Gates"
        empty="None is declared for it."
        columns={[
          { title: "metric", cell: (gate) => gate.metric },
          { title: "value", number: true, cell: (gate) => figure(gate.value) },
          { title: "bound", number: true, cell: (gate) => `${gate.op} ${figure(gate.bound)}` },
          { title: "passed", cell: (gate) => <span className={gate.passed ? "good-text" : "bad-text"}>{gate.passed ? "yes" : "no"}</span> },
          { title: "otherwise", cell: (gate) => gate.on_fail ?? "" },
        ]}
        rows={model.gates}
        id={(gate) => `${gate.metric} ${gate.op}`}
      />
      <h2>Claims beside their controls</h2>
      <Table
        caption="Claims"
        empty="It claims nothing."
        columns={[
          { title: "claim", wide: true, cell: (claim) => claim.claim },
          { title: "value", number: true, cell: (claim) => figure(claim.value) },
          { title: "control", number: true, cell: (claim) => figure(claim.control_value) },
          { title: "difference", number: true, cell: (claim) => (claim.difference_low === undefined ? "–" : `${figure(claim.difference)} [${figure(claim.difference_low)}, ${figure(claim.difference_high)}]`) },
          { title: "unit", cell: (claim) => claim.unit },
          { title: "holds", cell: (claim) => <span className={claim.holds ? "good-text" : "bad-text"}>{claim.holds ? "yes" : "no"}</span> },
        ]}
        rows={model.claims}
        id={(claim) => claim.claim}
      />
      {samples.length > 0 && (
        <>
          <h2>It answers</h2>
          <Table
            caption="Samples"
            columns={[
              { title: "prompt", wide: true, cell: (sample) => <span className="mono">{sample.prompt}</span> },
              { title: "answer", cell: (sample) => <span className={`mono ${sample.answer === sample.expected ? "good-text" : "bad-text"}`}>{sample.answer}</span> },
              { title: "expected", cell: (sample) => <span className="mono">{sample.expected}</span> },
            ]}
            rows={samples}
            id={(sample, index) => `${index} ${sample.prompt}`}
          />
        </>
      )}
    </>
  );
}

function Tensors({ digest }: { digest: string }) {
  const [text, search] = useState("");
  const query = useInfiniteQuery({
    queryKey: ["tensors", digest, text],
    queryFn: ({ pageParam, signal }) => getTensors(digest, { q: text, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next ?? undefined,
  });
  const tensors = query.data?.pages.flatMap((page) => page.tensors) ?? [];
  const columns: Column<(typeof tensors)[number]>[] = [
    { title: "tensor", cell: (tensor) => <span className="mono">{tensor.name}</span> },
    { title: "shape", number: true, cell: (tensor) => tensor.shape.join(" × ") },
    { title: "stored as", cell: (tensor) => tensor.dtype },
    { title: "codec", cell: (tensor) => tensor.codec || "as it is" },
    { title: "bits a weight", number: true, cell: (tensor) => figure(tensor.bits) },
    { title: "error", number: true, cell: (tensor) => figure(tensor.error) },
    { title: "bytes", number: true, cell: (tensor) => bytes(tensor.bytes) },
  ];
  const first = query.data?.pages[0];
  return (
    <>
      <div className="row">
        <input type="search" data-search className="grow" aria-label="Part of a tensor's name" placeholder="Part of a tensor's name   /" value={text} onChange={(event) => search(event.target.value)} />
        {first && (
          <span className="soft small">
            {first.count} tensors · {bytes(first.bytes)} · {figure(first.bits)} bits a weight
          </span>
        )}
      </div>
      <Shown query={query} what="the tensors">
        {() => (
          <>
            <Table caption="Tensors" columns={columns} rows={tensors} id={(tensor) => tensor.name} empty="None is called so." />
            {query.hasNextPage && <Action onClick={() => void query.fetchNextPage()}>Show more</Action>}
          </>
        )}
      </Shown>
    </>
  );
}

function Ancestors({ digest }: { digest: string }) {
  const query = useQuery({ queryKey: ["lineage", digest], queryFn: ({ signal }) => getLineage(digest, signal) });
  const nodes = useMemo(
    () =>
      (query.data?.nodes ?? []).map((node) => ({
        digest: node.digest,
        label: node.variant || node.phase || "from elsewhere",
        detail: node.phase || "unknown here",
        parents: (query.data?.edges ?? []).filter((edge) => edge.child === node.digest).map((edge) => edge.parent),
        href: `/ui/models/${node.digest}`,
      })),
    [query.data],
  );
  return (
    <Shown query={query} what="the lineage">
      {(lineage) => (
        <>
          <Graph title="Lineage" nodes={nodes} here={digest} />
          {lineage.cut && <p className="notice">There are more than are shown.</p>}
          <h2>Who has made or read it</h2>
          <Table
            caption="Uses"
            empty="Nobody that is known here."
            columns={[
              { title: "run", cell: (use) => <Link href={`/ui/runs/${encodeURIComponent(use.run)}`}>{use.run}</Link> },
              { title: "task", cell: (use) => use.task },
              { title: "as", cell: (use) => use.role },
              { title: "state", cell: (use) => <State state={use.state} /> },
              { title: "when", number: true, cell: (use) => moment(use.time) },
            ]}
            rows={lineage.uses}
            id={(use, index) => `${index} ${use.run}`}
          />
          {lineage.registered && <p>In MLflow's registry as {lineage.registered}.</p>}
        </>
      )}
    </Shown>
  );
}

function Manifest({ model }: { model: ModelDetail }) {
  const { peak_memory_bytes: memory, seconds, host } = model.timing as { peak_memory_bytes?: number; seconds?: number; host?: string };
  return (
    <>
      <dl className="facts">
        <Fact name="digest">
          <span className="mono">{model.digest}</span>
        </Fact>
        <Fact name="address">
          <span className="mono">{model.address}</span>
        </Fact>
        <Fact name="code">
          <span className="mono">{model.code_version}</span>
        </Fact>
        <Fact name="made in">
          {duration(seconds)}, {bytes(memory)} memory, on {host ?? "–"}
        </Fact>
      </dl>
      <Table
        caption="Files"
        columns={[
          { title: `file (${model.file_count})`, cell: (file) => <span className="mono">{file.name}</span> },
          { title: "size", number: true, cell: (file) => bytes(file.bytes) },
          { title: "sha256", cell: (file) => <span className="mono">{file.sha256.slice(0, 16)}…</span> },
        ]}
        rows={model.files}
        id={(file) => file.name}
      />
      {model.deployments.map((deployment) => (
        <p key={deployment.target}>
          Written for {deployment.target}: {deployment.state} <span className="mono">{deployment.address}</span> {deployment.notes.join(" · ")}
        </p>
      ))}
      <details>
        <summary>Metrics</summary>
        <pre tabIndex={0}>{JSON.stringify(model.metrics, null, 1)}</pre>
      </details>
      <details>
        <summary>Configuration</summary>
        <pre tabIndex={0}>{JSON.stringify(model.config, null, 1)}</pre>
      </details>
    </>
  );
}
