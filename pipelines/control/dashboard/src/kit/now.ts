import { useEffect, useState } from "react";

/** Unix seconds, renewed every so many seconds while the page is looked at. */
export function useNow(every = 1): number {
  const [now, become] = useState(() => Date.now() / 1000);
  useEffect(() => {
    const timer = setInterval(() => document.visibilityState === "visible" && become(Date.now() / 1000), every * 1000);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}
