/**
 * Fewer points for a screen: of each stretch its first, lowest, highest and last, so that no spike is lost.
 *
 * Where a value is missing (null) the line breaks there, also in what is left.
 */
export function thin(xs: readonly number[], ys: readonly (number | null)[], points: number): [number[], (number | null)[]] {
  if (xs.length <= points) return [[...xs], [...ys]];
  const stretches = Math.max(1, Math.floor(points / 4));
  const size = xs.length / stretches;
  const keep = new Set<number>();
  for (let stretch = 0; stretch < stretches; stretch += 1) {
    const begin = Math.floor(stretch * size);
    const end = Math.min(xs.length, Math.floor((stretch + 1) * size));
    let low = -1;
    let high = -1;
    for (let index = begin; index < end; index += 1) {
      const y = ys[index];
      if (y === null || y === undefined) continue;
      if (low < 0 || y < (ys[low] ?? Infinity)) low = index;
      if (high < 0 || y > (ys[high] ?? -Infinity)) high = index;
    }
    [begin, low, high, end - 1].filter((index) => index >= 0).forEach((index) => keep.add(index));
  }
  const order = [...keep].sort((a, b) => a - b);
  return [order.map((index) => xs[index] as number), order.map((index) => ys[index] ?? null)];
}
