/**
 * Where this page is in each run's events, and the proof that it has missed none.
 *
 * A run's numbers are dense: what comes must follow what has come. Something older is passed over, a gap is asked for again,
 * and where that does not help, or the log is another one (a restored database), the page reads the run anew.
 */
import type { ForgeEvent } from "../api/shapes";
import { LIST, type Message } from "./messages";

export interface Watcher {
  /** The next events, in order, each once. */
  events(events: ForgeEvent[]): void;
  /** What is known of the run is void: read it again, and watch from there. */
  reset(): void;
}

export interface Cursor {
  after: number;
  last: number;
  caughtUp: boolean;
  gapAt: number;
  /** Each with the number behind which it listens. */
  watchers: Map<Watcher, number>;
}

/** What the store wants of the wire. */
export interface Asks {
  watch(run: string, after: number): void;
  leave(run: string): void;
}

export class EventStore {
  log = "";
  readonly cursors = new Map<string, Cursor>();
  private readonly hints = new Set<() => void>();

  constructor(private readonly asks: Asks) {}

  /** Watch a run from behind the event `after`; call what is returned to end it. */
  watch(run: string, after: number, watcher: Watcher): () => void {
    const known = this.cursors.get(run);
    if (known && known.after <= after) {
      known.watchers.set(watcher, after);
    } else {
      const watchers = new Map([...(known?.watchers ?? []), [watcher, after] as const]);
      this.cursors.set(run, { after, last: after, caughtUp: false, gapAt: -1, watchers });
      this.asks.watch(run, after);
    }
    return () => {
      const cursor = this.cursors.get(run);
      cursor?.watchers.delete(watcher);
      if (cursor && cursor.watchers.size === 0) {
        this.cursors.delete(run);
        this.asks.leave(run);
      }
    };
  }

  /** Hear that the list of runs has changed. */
  onRuns(hint: () => void): () => void {
    this.hints.add(hint);
    if (this.hints.size === 1) this.asks.watch(LIST, 0);
    return () => {
      this.hints.delete(hint);
      if (this.hints.size === 0) this.asks.leave(LIST);
    };
  }

  /** Everything that a new wire has to watch. */
  subscriptions(): Record<string, number> {
    const runs = Object.fromEntries([...this.cursors].map(([run, cursor]) => [run, cursor.after]));
    return this.hints.size ? { ...runs, [LIST]: 0 } : runs;
  }

  /** How many events are known to be there and have not come yet. */
  get behind(): number {
    let sum = 0;
    for (const cursor of this.cursors.values()) sum += Math.max(0, cursor.last - cursor.after);
    return sum;
  }

  get caughtUp(): boolean {
    return [...this.cursors.values()].every((cursor) => cursor.caughtUp);
  }

  /** The wire has broken: nothing is known to be complete until it says so again. */
  interrupted(): void {
    for (const cursor of this.cursors.values()) cursor.caughtUp = false;
  }

  take(message: Message): void {
    if (message.type === "hello") this.hello(message.log);
    else if (message.type === "events") this.events(message.run, message.events, message.head ?? message.last);
    else if (message.type === "caught_up") this.complete(message.run, message.last);
    else if (message.type === "gone") this.void(message.run);
    else if (message.type === "runs") this.changed();
  }

  /** Tell whoever shows the list. */
  changed(): void {
    this.hints.forEach((hint) => hint());
  }

  private hello(log: string): void {
    const other = this.log !== "" && log !== this.log;
    this.log = log;
    if (!other) return;
    for (const run of [...this.cursors.keys()]) this.void(run);
    this.changed();
  }

  private events(run: string, events: ForgeEvent[], last: number): void {
    const cursor = this.cursors.get(run);
    if (!cursor) return;
    const fresh: ForgeEvent[] = [];
    let expected = cursor.after + 1;
    for (const event of events) {
      if (event.seq < expected) continue;
      if (event.seq > expected) return this.gap(run, cursor, fresh);
      fresh.push(event);
      expected += 1;
    }
    this.advance(cursor, fresh);
    cursor.last = Math.max(cursor.last, last, cursor.after);
  }

  private advance(cursor: Cursor, fresh: ForgeEvent[]): void {
    const end = fresh.at(-1);
    if (!end) return;
    cursor.after = end.seq;
    cursor.last = Math.max(cursor.last, end.seq);
    for (const [watcher, after] of [...cursor.watchers]) {
      const news = fresh.filter((event) => event.seq > after);
      if (news.length === 0) continue;
      cursor.watchers.set(watcher, end.seq);
      watcher.events(news);
    }
  }

  private gap(run: string, cursor: Cursor, fresh: ForgeEvent[]): void {
    this.advance(cursor, fresh);
    cursor.caughtUp = false;
    if (cursor.gapAt === cursor.after) return this.void(run); // asked for once already
    cursor.gapAt = cursor.after;
    this.asks.watch(run, cursor.after);
  }

  private complete(run: string, last: number): void {
    const cursor = this.cursors.get(run);
    if (!cursor) return;
    cursor.last = Math.max(cursor.last, last);
    cursor.caughtUp = cursor.after >= last;
  }

  private void(run: string): void {
    const cursor = this.cursors.get(run);
    if (!cursor) return;
    this.cursors.delete(run);
    this.asks.leave(run);
    for (const watcher of cursor.watchers.keys()) watcher.reset();
  }
}
