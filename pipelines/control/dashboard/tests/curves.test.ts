import { describe, expect, test } from "vitest";
import { thin } from "../src/kit/thin";
import { chartsOf, keyOf, merged, withEvents } from "../src/run/series";
import type { ForgeEvent } from "../src/api/shapes";

describe("a thinned curve", () => {
  const xs = Array.from({ length: 10_000 }, (_, index) => index);
  const ys: (number | null)[] = xs.map((x) => Math.sin(x / 300));
  ys[4321] = 50;
  ys[7000] = -50;
  test("keeps the true lowest and highest value, its ends, and its order", () => {
    const [thinXs, thinYs] = thin(xs, ys, 400);
    expect(thinXs.length).toBeLessThanOrEqual(400);
    expect(thinYs).toContain(50);
    expect(thinYs).toContain(-50);
    expect(thinXs[0]).toBe(0);
    expect(thinXs.at(-1)).toBe(9_999);
    expect([...thinXs].sort((a, b) => a - b)).toEqual(thinXs);
  });
  test("that has few points is left as it is", () => expect(thin([1, 2], [3, null], 400)).toEqual([[1, 2], [3, null]]));
});

const metric = (step: number, values: Record<string, number | null>, stage = "adaptation"): ForgeEvent => ({
  run: "a", seq: step, time: step, channel: "metrics", task: "training", attempt: 1, data: { kind: "metric", stage, step, values },
});

describe("a run's curves", () => {
  test("grow by events, and what was read already is not doubled", () => {
    const read = [{ run: "a", task: "training", phase: "training", metric_name: "adaptation: loss", steps: [1, 2], values: [3, 2], times: [1, 2], count: 2, cut: false }];
    const news = withEvents(new Map(), [metric(2, { loss: 2 }), metric(3, { loss: 1 }), metric(0, { bytes: 8 }, "result")]);
    const all = merged(read, news);
    expect(all.get(keyOf("training", "adaptation", "loss"))?.xs).toEqual([1, 2, 3]);
    expect([...all.keys()]).toHaveLength(1);
  });
  test("stand in the order in which somebody looks for them", () => {
    const news = withEvents(new Map(), [metric(1, { zeal: 1, success: 0.6, loss: 2 })]);
    expect(chartsOf(news.values(), () => "training", "training").map(({ name }) => name)).toEqual(["loss", "success", "zeal"]);
  });
});
