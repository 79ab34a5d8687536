import { describe, expect, test } from "vitest";
import type { ForgeEvent } from "../src/api/shapes";
import { EventStore } from "../src/live/store";

const event = (seq: number): ForgeEvent => ({ run: "a", seq, time: seq, channel: "logs", task: "", attempt: 0, data: { kind: "log" } });
const batch = (...seqs: number[]) => ({ type: "events" as const, run: "a", events: seqs.map(event), last: seqs.at(-1) ?? 0 });

function watched(after = 0) {
  const asked: [string, number][] = [];
  const left: string[] = [];
  const store = new EventStore({ watch: (run, from) => asked.push([run, from]), leave: (run) => left.push(run) });
  const seen: number[] = [];
  let resets = 0;
  const end = store.watch("a", after, { events: (events) => seen.push(...events.map(({ seq }) => seq)), reset: () => (resets += 1) });
  return { store, asked, left, seen, end, resets: () => resets };
}

describe("a run's events", () => {
  test("come once and in order, however often they are sent", () => {
    const { store, seen } = watched();
    store.take(batch(1, 2));
    store.take(batch(1, 2, 3));
    store.take(batch(2));
    store.take(batch(4));
    expect(seen).toEqual([1, 2, 3, 4]);
  });

  test("are asked for again from where a gap begins, and what is before the gap counts", () => {
    const { store, seen, asked } = watched();
    store.take(batch(1));
    store.take(batch(2, 4, 5));
    expect(seen).toEqual([1, 2]);
    expect(asked.at(-1)).toEqual(["a", 2]);
    store.take(batch(3, 4, 5));
    expect(seen).toEqual([1, 2, 3, 4, 5]);
  });

  test("are read anew where a gap stays", () => {
    const { store, resets } = watched();
    store.take(batch(5));
    expect(resets()).toBe(0);
    store.take(batch(5));
    expect(resets()).toBe(1);
    expect(store.subscriptions()).toEqual({});
  });

  test("go on behind what a new wire is told", () => {
    const { store } = watched(7);
    store.take(batch(8, 9));
    store.interrupted();
    expect(store.subscriptions()).toEqual({ a: 9 });
    expect(store.caughtUp).toBe(false);
    store.take({ type: "caught_up", run: "a", last: 9 });
    expect(store.caughtUp).toBe(true);
  });

  test("of another log are void", () => {
    const { store, resets } = watched();
    store.take({ type: "hello", log: "one" });
    store.take(batch(1));
    store.take({ type: "hello", log: "one" });
    expect(resets()).toBe(0);
    store.take({ type: "hello", log: "two" });
    expect(resets()).toBe(1);
  });

  test("that are gone are read anew", () => {
    const { store, resets } = watched(3);
    store.take({ type: "gone", run: "a", log: "one" });
    expect(resets()).toBe(1);
  });

  test("are no longer asked for once nobody watches", () => {
    const { store, end, left } = watched();
    end();
    expect(left).toEqual(["a"]);
    store.take(batch(1)); // late: nobody is told
  });

  test("reach a second watcher from its own number on, and the first not twice", () => {
    const { store, seen } = watched(0);
    store.take(batch(1, 2, 3));
    const late: number[] = [];
    store.watch("a", 1, { events: (events) => late.push(...events.map(({ seq }) => seq)), reset: () => undefined });
    store.take(batch(2, 3, 4));
    expect(late).toEqual([2, 3, 4]);
    expect(seen).toEqual([1, 2, 3, 4]);
  });

  test("that are known to be there and have not come are counted", () => {
    const { store } = watched();
    store.take({ ...batch(1), head: 41 });
    expect(store.behind).toBe(40);
  });
});

test("the list is watched while somebody shows it", () => {
  const { store, asked, left } = watched();
  let hints = 0;
  const end = store.onRuns(() => (hints += 1));
  expect(asked).toContainEqual(["*", 0]);
  store.take({ type: "runs" });
  expect(hints).toBe(1);
  end();
  expect(left).toContain("*");
});
