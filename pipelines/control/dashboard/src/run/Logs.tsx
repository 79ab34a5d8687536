/** A task's log: a hundred thousand lines in a window, with colours, search, levels, following, and links to lines. */
import { useVirtualizer } from "@tanstack/react-virtual";
import { useDeferredValue, useEffect, useMemo, useRef, useState } from "react";
import type { Heard, RunDetail } from "../api/shapes";
import { useChoice } from "../kit/address";
import { Action } from "../kit/action";
import { plain, spansOf } from "../kit/ansi";
import { Empty, Loading, Trouble } from "../kit/states";
import { say } from "../kit/toast";
import { useShortcuts } from "../shell/keys";
import { levelOf, LEVELS, matching, type Line } from "./lines";
import { useLines } from "./useLines";

const SOURCES: Record<string, string> = {
  folder: "from the run's folder",
  chunks: "from what the pod wrote into the store",
  kfp: "from Kubeflow's executor-logs",
  pod: "from the living pod",
};

interface Props {
  run: RunDetail;
  hear: (listener: Heard) => () => void;
}

export default function Logs({ run, hear }: Props) {
  const [choice, choose] = useChoice();
  const begun = run.tasks.filter((task) => task.attempts > 0 || task.started);
  const failed = begun.find((task) => task.status === "failed");
  const running = begun.find((task) => task.status === "running");
  const task = choice.task || (failed ?? running ?? begun.at(-1))?.task || "";
  const attempts = run.tasks.find((one) => one.task === task)?.attempts ?? 0;
  if (!task) return <Empty title="No task has begun">Its log appears here, line by line, when it does.</Empty>;
  return (
    <>
      <div className="row">
        <select aria-label="task" value={task} onChange={(event) => choose({ task: event.target.value, attempt: "", line: "" })}>
          {begun.map((one) => (
            <option key={one.task} value={one.task}>
              {one.task} ({one.status})
            </option>
          ))}
        </select>
        {attempts > 1 && (
          <select aria-label="attempt" value={choice.attempt ?? ""} onChange={(event) => choose({ attempt: event.target.value, line: "" })}>
            <option value="">all attempts</option>
            {Array.from({ length: attempts }, (_, index) => (
              <option key={index} value={index + 1}>
                attempt {index + 1}
              </option>
            ))}
          </select>
        )}
      </div>
      <Window key={`${task} ${choice.attempt}`} run={run} task={task} attempt={choice.attempt ?? ""} hear={hear} />
    </>
  );
}

function Window({ run, task, attempt, hear }: Props & { task: string; attempt: string }) {
  const [choice, choose] = useChoice();
  const { lines, source, error, loading, again } = useLines(run.id, task, attempt, hear);
  const [follow, setFollow] = useState(!choice.line);
  const [level, setLevel] = useState("");
  const [text, search] = useState(choice.find ?? "");
  const [only, setOnly] = useState(false);
  const [hit, toHit] = useState(0);
  const holder = useRef<HTMLDivElement>(null);

  const wanted = useDeferredValue(text); // the field answers at once, the lines follow
  const hits = useMemo(() => matching(lines, wanted), [lines, wanted]);
  const shown = useMemo<Line[]>(() => {
    const levelled = level ? lines.filter((line) => levelOf(line) === level) : lines;
    return only && text ? levelled.filter((line) => hits.has(line.n)) : levelled;
  }, [lines, level, only, text, hits]);
  const order = useMemo(() => shown.flatMap((line, index) => (hits.has(line.n) ? [index] : [])), [shown, hits]);

  const rows = useVirtualizer({ count: shown.length, getScrollElement: () => holder.current, estimateSize: () => 20, overscan: 20 });
  const linked = Number(choice.line ?? 0);
  const jumped = useRef(false);
  useEffect(() => {
    if (!linked || jumped.current) return;
    const index = shown.findIndex((line) => line.n === linked);
    if (index < 0) return;
    jumped.current = true;
    rows.scrollToIndex(index, { align: "center" });
  }, [linked, shown, rows]);
  useEffect(() => {
    if (follow && shown.length) rows.scrollToIndex(shown.length - 1, { align: "end" });
  }, [follow, shown.length, rows]);

  const go = (by: number): void => {
    if (order.length === 0) return;
    const next = (hit + by + order.length) % order.length;
    toHit(next);
    setFollow(false);
    rows.scrollToIndex(order[next] ?? 0, { align: "center" });
  };
  useShortcuts([
    { keys: "f", what: "Follow the log", act: () => setFollow((old) => !old) },
    { keys: "n", what: "Next hit in the log", act: () => go(1) },
    { keys: "N", what: "Hit before", act: () => go(-1) },
  ]);
  if (error) return <Trouble error={error} again={again} />;
  return (
    <>
      <div className="row" role="search" aria-label="Log">
        <input
          type="search"
          data-search
          className="grow"
          aria-label="Find in the log"
          placeholder="Find in the log   /"
          value={text}
          onChange={(event) => {
            search(event.target.value);
            toHit(0);
          }}
          onKeyDown={(event) => event.key === "Enter" && go(event.shiftKey ? -1 : 1)}
        />
        <span className="soft small" role="status">
          {text ? `${order.length ? hit + 1 : 0} of ${order.length}` : `${lines.length} lines`}
          {source && ` · ${SOURCES[source] ?? source}`}
          {loading && " …"}
        </span>
        <label className="check">
          <input type="checkbox" checked={only} onChange={(event) => setOnly(event.target.checked)} /> only hits
        </label>
        <select aria-label="level" value={level} onChange={(event) => setLevel(event.target.value)}>
          <option value="">level: any</option>
          {LEVELS.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
        <Action aria-pressed={follow} onClick={() => setFollow(!follow)} title="Follow the log (f)">
          Follow
        </Action>
        <Action
          kind="quiet"
          onClick={() => {
            navigator.clipboard.writeText(shown.map((line) => plain(line.text)).join("\n")).then(() => say("copied"), () => say("the browser does not let the page copy", true));
          }}
        >
          Copy
        </Action>
      </div>
      {lines.length === 0 ? (
        loading ? <Loading what="the log" /> : <Empty title="The log is empty">The task has written nothing yet; what it writes appears here.</Empty>
      ) : (
        <div
          className="log"
          ref={holder}
          tabIndex={0}
          role="log"
          aria-label={`Log of ${task}`}
          aria-live="off"
          onWheel={(event) => event.deltaY < 0 && setFollow(false)}
        >
          <div className="all" ref={(element) => void (element && (element.style.height = `${rows.getTotalSize()}px`))}>
            {rows.getVirtualItems().map((item) => {
              const line = shown[item.index];
              if (!line) return null;
              const found = text && hits.has(line.n);
              return (
                <div
                  key={line.n}
                  className={["line", line.n === linked && "here", found && "found"].filter(Boolean).join(" ")}
                  ref={(element) => void (element && (element.style.transform = `translateY(${item.start}px)`))}
                >
                  <a
                    className="number"
                    href={`?tab=logs&task=${encodeURIComponent(task)}${attempt && `&attempt=${attempt}`}&line=${line.n}`}
                    aria-label={`Link to line ${line.n}`}
                    onClick={(event) => {
                      event.preventDefault();
                      setFollow(false);
                      choose({ task, line: String(line.n) });
                    }}
                  >
                    {line.n}
                  </a>
                  <span className={levelOf(line)}>
                    {spansOf(line.text).map((span, index) => (
                      <span key={index} className={span.classes || undefined}>
                        {span.text}
                      </span>
                    ))}
                  </span>
                </div>
              );
            })}
          </div>
        </div>
      )}
    </>
  );
}
