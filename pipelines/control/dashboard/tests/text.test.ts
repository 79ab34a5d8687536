import { describe, expect, test } from "vitest";
import { plain, spansOf } from "../src/kit/ansi";
import { differences, flat } from "../src/kit/flat";
import { searchOf } from "../src/kit/address";
import { bytes, duration, figure } from "../src/kit/time";
import { messageOf } from "../src/live/messages";
import { ServerEvents } from "../src/live/sse";
import { levelOf, matching } from "../src/run/lines";

describe("a line of a log", () => {
  test("keeps its colours as classes, and loses every other control sequence", () => {
    expect(spansOf("\u001b[1;31mbad\u001b[0m good\u001b[2K\u001b]0;title\u0007")).toEqual([
      { text: "bad", classes: "ansi-red ansi-bold" },
      { text: " good", classes: "" },
    ]);
  });
  test("is shown as a progress bar has left it", () => expect(plain("10%\r50%\r100%\r")).toBe("100%"));
  test("passes over colours that the page has none for", () => expect(plain("\u001b[38;5;196mx\u001b[48;2;1;2;3my")).toBe("xy"));
  test("cannot turn the direction of reading, ring, or hide in a broken sequence", () => expect(plain("a\u202eb\u0007c\u001b[")).toBe("abc["));
  test("says its level", () => {
    expect(levelOf({ n: 1, text: "step 3, loss 2.1" })).toBe("info");
    expect(levelOf({ n: 1, text: "ERROR it broke" })).toBe("error");
    expect(levelOf({ n: 1, text: "a warning" })).toBe("warning");
    expect(levelOf({ n: 1, text: "error", level: "debug" })).toBe("debug");
  });
  test("is found without regard to case and colours", () => {
    expect(matching([{ n: 1, text: "\u001b[31mLo\u001b[0mss 3" }, { n: 2, text: "gain" }], "loss")).toEqual(new Set([1]));
  });
});

test("a hundred thousand lines are searched in a moment", () => {
  const lines = Array.from({ length: 100_000 }, (_, n) => ({ n, text: `step ${n} loss ${n / 7}` }));
  expect(matching(lines, "step 99999").size).toBe(1);
});

describe("server-sent events", () => {
  test("come whole out of pieces", () => {
    const parser = new ServerEvents();
    expect(parser.take("id: log:1\nda")).toEqual([]);
    expect(parser.take('ta: {"a":1}\n\n: still')).toEqual([{ event: "message", data: '{"a":1}', id: "log:1" }]);
    expect(parser.take(" here\r\n\r\n")).toEqual([{ event: "comment", data: "", id: "" }]);
  });
  test("may have several lines of data and a name", () => {
    expect(new ServerEvents().take("event: gone\ndata: a\ndata: b\n\n")).toEqual([{ event: "gone", data: "a\nb", id: "" }]);
  });
});

test("what is no message ends nothing", () => {
  expect(messageOf("{")).toBeNull();
  expect(messageOf("1")).toBeNull();
  expect(messageOf('{"type":"ping"}')).toEqual({ type: "ping" });
});

test("settings that travel as text are settings", () => {
  const rows = flat({ bitnet_settings: '{"bitnet":{"steps":8,"lr":0.1}}', name: "[half" });
  expect(rows.get("bitnet_settings.bitnet.steps")).toBe(8);
  expect(rows.get("name")).toBe("[half");
});

test("only what differs is a difference", () => {
  expect(differences(new Map([["a", 1], ["b", 2]]), new Map([["a", 1], ["c", 3]]))).toEqual([
    { name: "b", before: 2, after: undefined },
    { name: "c", before: undefined, after: 3 },
  ]);
});

test("an address says what is chosen, always in the same order", () => {
  expect(searchOf({ state: "failed", profile: "", q: "a b" })).toBe("q=a+b&state=failed");
});

test("amounts are read at a glance", () => {
  expect(duration(95)).toBe("1 min 35 s");
  expect(duration(0.25)).toBe("250 ms");
  expect(duration(null)).toBe("–");
  expect(bytes(85_194)).toBe("85.2 kB");
  expect(figure(0.0000123)).toBe("1.23e-5");
  expect(figure(Number.NaN)).toBe("–");
});
