import { SIGNS, toneOf } from "./phases";

/** A state, by sign, word and colour. */
export function State({ state }: { state: string }) {
  const tone = toneOf(state);
  return (
    <span className={`badge ${tone}`}>
      <span aria-hidden="true">{SIGNS[tone]}</span> {state}
    </span>
  );
}
