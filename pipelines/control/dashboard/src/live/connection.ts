/** The page's connection: which wire it is on, when it tries again, and what the page may say of itself. */
import { ask } from "../api/client";
import { Problem } from "../api/problem";
import { current, subscribe as onSession } from "../api/session";
import { backoff } from "./backoff";
import { type Ears, type Message, type Wire } from "./messages";
import { poll } from "./poll";
import { socket } from "./socket";
import { EventStore } from "./store";
import { stream } from "./stream";

export type Way = "websocket" | "stream" | "polling";

/** What is true of the page now. `heard` is when the server last said something. */
export interface Standing {
  kind: "connecting" | "live" | "catching up" | "reconnecting" | "as of" | "off";
  way: Way;
  behind: number;
  seconds: number;
  heard: number;
  why: string;
}

/** After so long without a word a connection is dead, whatever it says of itself. */
const DEAD_SECONDS = 45;
/** So often a way fails before its first word until the next one is tried; and so long that one is kept. */
const TRIES = 2;
const KEEP_SECONDS = 300;
const NEXT: Record<Way, Way> = { websocket: "stream", stream: "polling", polling: "polling" };

export class Connection {
  readonly store = new EventStore({
    watch: (run, after) => {
      this.wire?.watch(run, after);
      this.tell();
    },
    leave: (run) => {
      this.wire?.leave(run);
      this.tell();
    },
  });
  way: Way = "websocket";
  private wire: Wire | null = null;
  private greeted = false;
  private heardAt = 0;
  private failures = 0;
  private wordless = 0;
  private retryAt = 0;
  private why = "";
  private wayUntil = 0;
  private asOf = 0;
  private stale = false; // the server speaks, but its database does not answer it
  private timer: ReturnType<typeof setInterval> | null = null;
  private readonly listeners = new Set<() => void>();
  private told: Standing = { kind: "off", way: "websocket", behind: 0, seconds: 0, heard: 0, why: "" };

  /** Connect while somebody is logged in; returns what ends it. */
  start(): () => void {
    const follow = (): void => (current().state === "in" ? this.begin() : this.end());
    const wake = (): void => {
      if (document.visibilityState === "visible" && !this.wire && this.retryAt) void this.open();
    };
    const unsubscribe = onSession(follow);
    addEventListener("online", wake);
    document.addEventListener("visibilitychange", wake);
    follow();
    return () => {
      unsubscribe();
      removeEventListener("online", wake);
      document.removeEventListener("visibilitychange", wake);
      this.end();
    };
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  standing = (): Standing => this.told;

  private begin(): void {
    if (this.timer) return;
    this.timer = setInterval(() => this.tick(), 1000);
    void this.open();
  }

  private end(): void {
    if (this.timer) clearInterval(this.timer);
    this.timer = null;
    this.wire?.close();
    this.wire = null;
    this.retryAt = 0;
    this.tell();
  }

  private open(): void {
    this.retryAt = 0;
    this.greeted = false;
    this.heardAt ||= Date.now();
    const opened = Date.now();
    if (this.way !== "websocket" && Date.now() > this.wayUntil) this.way = "websocket";
    let mine: Wire | null = null;
    const ears: Ears = {
      heard: (message) => (mine === null || this.wire === mine) && this.heard(message),
      ended: (why) => (mine === null || this.wire === mine) && this.ended(why, opened),
    };
    const subscriptions = (): Record<string, number> => this.store.subscriptions();
    const log = (): string => this.store.log;
    if (this.way === "websocket") mine = socket(ears, current().token, log, subscriptions);
    else if (this.way === "stream") mine = stream(ears, log, subscriptions);
    else mine = poll(ears, log, subscriptions);
    this.wire = mine;
    this.tell();
  }

  private heard(message: Message): void {
    this.heardAt = Date.now();
    if (!this.greeted) {
      this.greeted = true;
      this.failures = this.wordless = 0;
      this.why = "";
    }
    if (message.type === "closing") this.why = message.why;
    if (message.type === "ping") this.stale = message.as_of !== undefined && message.as_of === this.asOf;
    if (message.type === "ping" && message.as_of) this.asOf = message.as_of;
    if (message.type === "events") this.stale = false;
    this.store.take(message);
    this.tell();
  }

  private ended(why: string, opened: number): void {
    this.wire?.close();
    this.wire = null;
    this.store.interrupted();
    if (!this.timer) return;
    this.why ||= why;
    const quick = !this.greeted || Date.now() - opened < 1000;
    this.wordless = quick ? this.wordless + 1 : 0;
    this.retryAt = Date.now() + 1000 * backoff(this.failures);
    this.failures += 1;
    this.tell();
    if (quick) void this.probe();
  }

  /** Whether it is the way that fails, or the server: where plain requests are answered, the next way is tried. */
  private async probe(): Promise<void> {
    try {
      await ask("get", "/auth/me"); // a token that has run out is renewed by this
    } catch (error) {
      if (error instanceof Problem && error.unreachable) this.wordless = 0;
      return;
    }
    if (this.wordless < TRIES) return;
    this.way = NEXT[this.way];
    this.wayUntil = Date.now() + KEEP_SECONDS * 1000;
    this.wordless = 0;
    this.retryAt = Date.now();
    this.tell();
  }

  private tick(): void {
    if (this.wire && Date.now() - this.heardAt > DEAD_SECONDS * 1000) {
      this.heardAt = Date.now();
      this.ended("nothing was heard for too long", 0);
    } else if (!this.wire && this.retryAt && Date.now() >= this.retryAt) {
      this.open();
    }
    this.tell();
  }

  private now(): Standing {
    const base = { way: this.way, behind: this.store.behind, seconds: 0, heard: this.heardAt, why: this.why };
    if (!this.timer) return { ...base, kind: "off" };
    if (!this.wire) {
      const seconds = Math.max(0, Math.ceil((this.retryAt - Date.now()) / 1000));
      return { ...base, kind: "reconnecting", seconds };
    }
    if (!this.greeted) return { ...base, kind: this.failures ? "reconnecting" : "connecting" };
    if (!this.store.caughtUp) return { ...base, kind: "catching up" };
    if (this.stale) return { ...base, kind: "as of", heard: this.asOf * 1000, why: "the server's database does not answer" };
    return { ...base, kind: this.way === "polling" ? "as of" : "live" };
  }

  private tell(): void {
    const next = this.now();
    const same = (Object.keys(next) as (keyof Standing)[]).every(
      (key) => next[key] === this.told[key] || (key === "heard" && next.kind === "live"),
    );
    if (same) return;
    this.told = next;
    this.listeners.forEach((listener) => listener());
  }
}

export const connection = new Connection();
