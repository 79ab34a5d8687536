/** Ask one model, or two side by side. The server verifies each before it is used, and runs no code that came with it. */
import { useMutation, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { askModels, listModels, type Answer, type Model } from "../api/models";
import { forbidden } from "../api/session";
import { Action } from "../kit/action";
import { useChoice } from "../kit/address";
import { Empty, Loading, Trouble } from "../kit/states";
import { amount, duration, figure } from "../kit/time";

interface Turn {
  prompt: string;
  answers: Answer[];
}

export default function PlaygroundPage() {
  const [choice, choose] = useChoice();
  const [prompt, write] = useState("");
  const [tokens, limit] = useState(64);
  const [turns, add] = useState<Turn[]>([]);
  const chosen = (choice.models ?? "").split(",").filter(Boolean).slice(0, 2);
  const models = useQuery({ queryKey: ["models", "all"], queryFn: ({ signal }) => listModels({ limit: 200 }, signal) });
  const asking = useMutation({
    mutationFn: () => askModels(chosen, prompt, tokens),
    onSuccess: ({ answers }) => {
      add((old) => [{ prompt, answers }, ...old]);
      write("");
    },
  });
  const pick = (place: number, digest: string): void => {
    const next = [...chosen];
    next[place] = digest;
    choose({ models: [...new Set(next.filter(Boolean))].join(",") });
  };
  const all = models.data?.models ?? [];
  const why =
    forbidden("models", "execute") || (chosen.length ? "" : "choose a model") || (prompt.trim() ? "" : "write a prompt") || (asking.isPending ? "it is being asked" : "");
  if (models.data && all.length === 0) {
    return (
      <>
        <h1>Playground</h1>
        <Empty title="There is no model to ask yet">
          Start a run: <Link href="/ui/new">New run</Link>. Each phase publishes a model.
        </Empty>
      </>
    );
  }
  return (
    <>
      <h1>Playground</h1>
      <form
        className="stack"
        onSubmit={(event) => {
          event.preventDefault();
          if (!why) asking.mutate();
        }}
      >
        <div className="halves">
          <Pick label="Model" value={chosen[0] ?? ""} models={all} pick={(digest) => pick(0, digest)} />
          <Pick label="Beside it" value={chosen[1] ?? ""} models={all} pick={(digest) => pick(1, digest)} none />
        </div>
        <label className="field">
          <span>Prompt</span>
          <textarea
            data-search
            rows={4}
            value={prompt}
            onChange={(event) => write(event.target.value)}
            onKeyDown={(event) => {
              if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !why) asking.mutate();
            }}
          />
        </label>
        <div className="row end">
          <label className="check">
            <span className="soft">tokens at most</span>
            <input type="number" min={1} max={512} value={tokens} onChange={(event) => limit(Number(event.target.value))} />
          </label>
          <Action type="submit" kind="primary" why={why} title="Ctrl Enter">
            Ask
          </Action>
        </div>
      </form>
      {asking.isPending && <Loading what="and verifying the model, then its answer" />}
      {asking.error && <Trouble error={asking.error} />}
      {turns.map((turn, index) => (
        <article key={turns.length - index} className="card stack" aria-label={`Answers to ${turn.prompt.slice(0, 60)}`}>
          <pre tabIndex={0}>{turn.prompt}</pre>
          <div className="halves">
            {turn.answers.map((answer) => (
              <div key={answer.digest} className="stack">
                <h2>
                  <Link href={`/ui/models/${answer.digest}`}>{nameOf(all, answer.digest)}</Link>
                </h2>
                <pre tabIndex={0}>{answer.text || "(nothing)"}</pre>
                <p className="soft small">
                  {answer.tokens} tokens in {duration(answer.seconds)} ({figure(answer.tokens_per_second)}/s), verified and loaded in {duration(answer.load_seconds)}
                  {!answer.finished && " · cut off"}
                </p>
                {answer.route && (
                  <details>
                    <summary>How it went about it</summary>
                    <pre tabIndex={0}>{JSON.stringify(answer.route, null, 1)}</pre>
                  </details>
                )}
              </div>
            ))}
          </div>
        </article>
      ))}
    </>
  );
}

const nameOf = (models: Model[], digest: string): string => {
  const model = models.find((one) => one.digest === digest);
  return model ? `${model.variant || model.phase} · ${model.run || "imported"} · ${digest.slice(0, 8)}` : digest.slice(0, 12);
};

function Pick({ label, value, models, pick, none = false }: { label: string; value: string; models: Model[]; pick: (digest: string) => void; none?: boolean }) {
  return (
    <label className="field">
      <span>{label}</span>
      <select value={value} onChange={(event) => pick(event.target.value)}>
        <option value="">{none ? "none" : "choose one"}</option>
        {value && !models.some((model) => model.digest === value) && <option value={value}>{value.slice(0, 12)}</option>}
        {models.map((model) => (
          <option key={model.digest} value={model.digest}>
            {nameOf(models, model.digest)} · {amount(model.parameters)}
          </option>
        ))}
      </select>
    </label>
  );
}
