import { SIGNS, toneOf } from "./phases";

/** A state, by sign, word and colour. */
export function State({ state, word = state }: { state: string; word?: string }) {
  const tone = toneOf(state);
  return (
    <span className={`badge ${tone}`}>
      <span aria-hidden="true">{SIGNS[tone]}</span> {word}
    </span>
  );
}
