import { describe, expect, test } from "vitest";
import type { ForgeEvent, Page, Run, RunDetail, Task } from "../src/api/shapes";
import { fieldsOf, overrideOf, wrongWith } from "../src/forge/schema";
import { layersOf } from "../src/models/layers";
import { applied, decisive } from "../src/run/fold";
import { withFirst } from "../src/runs/merge";
import { reasonOf } from "../src/runs/row";

const run = (created: number, more: Partial<Run> = {}): Run => ({ id: `r${created}`, created, ...more }) as Run;
const page = (from: number, to: number, next: string | null): Page => ({
  runs: Array.from({ length: from - to + 1 }, (_, index) => run(from - index)),
  next,
});

describe("the list's first page anew", () => {
  test("pushes what it no longer holds to the next page, and loses none", () => {
    const pages = withFirst([page(10, 6, "c"), page(5, 1, null)], page(12, 8, "c"));
    expect(pages.flatMap(({ runs }) => runs.map(({ created }) => created))).toEqual([12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
  });
  test("drops what was deleted from its stretch", () => {
    const fresh = { runs: [run(10), run(8), run(7), run(6), run(5)], next: "c" };
    const pages = withFirst([page(10, 6, "c"), page(5, 1, null)], fresh);
    expect(pages.flatMap(({ runs }) => runs.map(({ created }) => created))).toEqual([10, 8, 7, 6, 5, 4, 3, 2, 1]);
  });
});

test("a row says why it waits, and what failed and why", () => {
  expect(reasonOf(run(1, { state: "queued", why: "waits for memory" }))).toBe("waits for memory");
  expect(reasonOf(run(1, { state: "failed", failing: "bitnet", error: { what: "no disk", why: "full" }, why: "" }))).toBe("bitnet · no disk: full");
});

const detail = (): RunDetail =>
  ({
    id: "a", last_seq: 5, phases: { bitnet: { state: "running", share: 0.2 } },
    tasks: [{ task: "bitnet", phase: "bitnet", status: "running", attempts: 1, progress: {}, metrics: {} } as unknown as Task],
  }) as unknown as RunDetail;
const event = (seq: number, data: ForgeEvent["data"], attempt = 1): ForgeEvent => ({ run: "a", seq, time: 9, channel: "", task: "bitnet", attempt, data });

describe("a run's events", () => {
  test("move its strip at once", () => {
    const after = applied(detail(), [event(6, { kind: "progress", stage: "training", step: 3, total: 4, eta: 2 })]);
    expect(after.phases.bitnet).toMatchObject({ state: "running", share: 0.75, stage: "training", step: 3 });
    expect(after.last_seq).toBe(6);
  });
  test("that are known already change nothing", () => {
    const before = detail();
    expect(applied(before, [event(5, { kind: "progress", stage: "x", step: 1, total: 1 })])).toBe(before);
  });
  test("of an older attempt do not go back", () => {
    const before = detail();
    if (before.tasks[0]) before.tasks[0].attempts = 2;
    expect(applied(before, [event(6, { kind: "progress", stage: "old", step: 1, total: 9 })]).tasks[0]?.progress).toEqual({});
  });
  test("that change a state are looked up at the server", () => {
    expect(decisive([event(6, { kind: "metric", values: {} })])).toBe(false);
    expect(decisive([event(6, { kind: "task", status: "failed" })])).toBe(true);
  });
});

describe("a form", () => {
  const fields = fieldsOf("bitnet", {
    properties: {
      steps: { type: "integer", minimum: 1, description: "of training", default: 8 },
      stop: { anyOf: [{ type: "number" }, { type: "null" }] },
      text: { $ref: "#/$defs/Text" },
      kind: { enum: ["a", "b c"] },
      goals: { type: "array" },
    },
    $defs: { Text: { properties: { path: { type: "string" } } } },
  });
  test("has a field for every value, however deep", () => {
    expect(fields.map(({ name, kind, optional }) => [name, kind, optional])).toEqual([
      ["bitnet.steps", "integer", false], ["bitnet.stop", "number", true], ["bitnet.text.path", "text", false],
      ["bitnet.kind", "choice", false], ["bitnet.goals", "value", false],
    ]);
  });
  test("says what is wrong before the server does", () => {
    const [steps] = fields;
    if (!steps) throw new Error("no field");
    expect(wrongWith(steps, "1.5")).toBe("it is no whole number");
    expect(wrongWith(steps, "0")).toBe("1 at least");
    expect(wrongWith(steps, "")).toBe("");
  });
  test("writes overrides that Hydra understands", () => {
    const byName = Object.fromEntries(fields.map((field) => [field.name, field]));
    expect(overrideOf(byName["bitnet.steps"]!, "9")).toBe("bitnet.steps=9");
    expect(overrideOf(byName["bitnet.kind"]!, "b c")).toBe("bitnet.kind='b c'");
    expect(overrideOf(byName["bitnet.text.path"]!, "it's")).toBe("bitnet.text.path='it\\'s'");
    expect(overrideOf(byName["bitnet.goals"]!, "[1, 2]")).toBe("bitnet.goals=[1, 2]");
  });
});

test("parents stand before their children, and a circle does not hang", () => {
  const places = layersOf([
    { digest: "a", parents: [] },
    { digest: "b", parents: ["a"] },
    { digest: "c", parents: ["a", "b"] },
    { digest: "x", parents: ["y"] },
    { digest: "y", parents: ["x"] },
  ]);
  expect([places.get("a")?.layer, places.get("b")?.layer, places.get("c")?.layer]).toEqual([0, 1, 2]);
  expect(places.size).toBe(5);
});
