/** What is chosen on a page, in its address: a link shows another person the same. */
import { useCallback } from "react";
import { useLocation, useSearch } from "wouter";

export type Choice = Record<string, string>;

export const choiceOf = (search: string): Choice => Object.fromEntries(new URLSearchParams(search));

/** The choice with changes; an empty value leaves a name out. */
export function searchOf(choice: Choice): string {
  const query = new URLSearchParams(Object.entries(choice).filter(([, value]) => value !== ""));
  query.sort();
  return query.toString();
}

export function useChoice(): [Choice, (changes: Choice) => void] {
  const search = useSearch();
  const [path, go] = useLocation();
  const choose = useCallback(
    (changes: Choice) => {
      const next = searchOf({ ...choiceOf(location.search), ...changes });
      go(next ? `${path}?${next}` : path, { replace: true });
    },
    [path, go],
  );
  return [choiceOf(search), choose];
}
