import { afterEach, beforeEach, expect, test, vi } from "vitest";

/** A WebSocket that a test opens, feeds and breaks. It speaks to no server: this is the browser's side alone. */
class Socket {
  static all: Socket[] = [];
  static readonly OPEN = 1;
  readyState = 0;
  sent: string[] = [];
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: (() => void) | null = null;
  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {
    Socket.all.push(this);
  }
  send(text: string): void {
    this.sent.push(text);
  }
  close(): void {
    this.readyState = 3;
  }
  open(): void {
    this.readyState = 1;
    this.onopen?.();
    this.say({ type: "hello", log: "l", client: "c" });
  }
  say(message: unknown): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
  fail(): void {
    this.readyState = 3;
    this.onclose?.({ code: 1006, reason: "" });
  }
}

let answers: (request: Request) => Promise<Response>;

async function connected() {
  vi.resetModules();
  const { connection } = await import("../src/live/connection");
  const session = await import("../src/api/session");
  answers = async (request) => {
    if (request.url.endsWith("/auth/exchange")) return Response.json({ access_token: "t", expires: 0, principal: { id: "p", name: "n", role: "admin", rights: {} } });
    return Response.json({});
  };
  await session.enter("code");
  const end = connection.start();
  return { connection, end };
}

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000_000_000 });
  Socket.all = [];
  vi.stubGlobal("WebSocket", Socket);
  vi.stubGlobal("fetch", (input: Request | string, init?: RequestInit) =>
    answers(input instanceof Request ? input : new Request(new URL(input, "http://localhost"), init)),
  );
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("it is live only once the server has said hello, and says with which token it comes", async () => {
  const { connection, end } = await connected();
  const [socket] = Socket.all;
  expect(connection.standing().kind).toBe("connecting");
  expect(socket?.protocols).toEqual(["forge.v1", "bearer.t"]);
  socket?.open();
  expect(connection.standing().kind).toBe("live");
  end();
});

test("a broken connection counts down, comes back, and asks from where it was", async () => {
  const { connection, end } = await connected();
  const [first] = Socket.all;
  first?.open();
  connection.store.watch("a", 4, { events: () => undefined, reset: () => undefined });
  expect(connection.standing().kind).toBe("catching up");
  first?.say({ type: "caught_up", run: "a", last: 4 });
  expect(connection.standing().kind).toBe("live");
  await vi.advanceTimersByTimeAsync(5_000);
  first?.fail();
  expect(connection.standing().kind).toBe("reconnecting");
  await vi.advanceTimersByTimeAsync(3_000);
  const second = Socket.all.at(-1);
  expect(second).not.toBe(first);
  second?.open();
  expect(JSON.parse(second?.sent[0] ?? "{}")).toEqual({ subscribe: { a: 4 }, log: "l" });
  expect(connection.standing().kind).toBe("catching up");
  second?.say({ type: "caught_up", run: "a", last: 4 });
  expect(connection.standing().kind).toBe("live");
  end();
});

test("a connection that says nothing is dead, however open it looks", async () => {
  const { connection, end } = await connected();
  Socket.all[0]?.open();
  await vi.advanceTimersByTimeAsync(40_000);
  expect(connection.standing().kind).toBe("live");
  await vi.advanceTimersByTimeAsync(6_000);
  expect(connection.standing().kind).toBe("reconnecting");
  end();
});

test("where WebSockets are blocked and requests are answered, the next way is taken", async () => {
  const { connection, end } = await connected();
  for (let tries = 0; tries < 2; tries += 1) {
    Socket.all.at(-1)?.fail();
    await vi.advanceTimersByTimeAsync(2_500);
  }
  expect(connection.standing().way).toBe("stream");
  end();
});

test("where the server is away altogether, the way stays", async () => {
  const { connection, end } = await connected();
  answers = () => Promise.reject(new TypeError("refused"));
  for (let tries = 0; tries < 4; tries += 1) {
    Socket.all.at(-1)?.fail();
    await vi.advanceTimersByTimeAsync(16_000);
  }
  expect(connection.standing().way).toBe("websocket");
  expect(connection.standing().kind).not.toBe("live");
  end();
});

test("a server whose database is away is no longer live", async () => {
  const { connection, end } = await connected();
  const [socket] = Socket.all;
  socket?.open();
  socket?.say({ type: "ping", as_of: 100 });
  expect(connection.standing().kind).toBe("live");
  socket?.say({ type: "ping", as_of: 100 });
  expect(connection.standing().kind).toBe("as of");
  socket?.say({ type: "ping", as_of: 140 });
  expect(connection.standing().kind).toBe("live");
  end();
});
