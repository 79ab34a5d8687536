/** Short words about what has just been done, or has not worked. */
import { useSyncExternalStore } from "react";
import { asProblem } from "../api/problem";

interface Word {
  id: number;
  text: string;
  bad: boolean;
}

let words: Word[] = [];
let count = 0;
const listeners = new Set<() => void>();

function become(next: Word[]): void {
  words = next;
  listeners.forEach((listener) => listener());
}

export function say(text: string, bad = false): void {
  const word = { id: (count += 1), text, bad };
  become([...words.slice(-3), word]);
  setTimeout(() => become(words.filter((other) => other !== word)), bad ? 12_000 : 5_000);
}

export function sayProblem(error: unknown): void {
  const { what, detail } = asProblem(error);
  say([what, detail.why, detail.fix].filter(Boolean).join(" · "), true);
}

export function Toasts() {
  const all = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => words,
  );
  return (
    <div className="toasts" role="status" aria-live="polite">
      {all.map(({ id, text, bad }) => (
        <p key={id} className={bad ? "toast bad" : "toast"}>
          {text}
        </p>
      ))}
    </div>
  );
}
