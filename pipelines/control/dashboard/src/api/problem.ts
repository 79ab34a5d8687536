/** An answer that is no success, in the words of the server: what, where, why, and what to do. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly what: string,
    readonly detail: { where?: string; why?: string; fix?: string; request_id?: string; state?: unknown } = {},
  ) {
    super(what);
    this.name = "Problem";
  }

  /** Whether nobody answered at all. */
  get unreachable(): boolean {
    return this.status === 0;
  }
}

/** What an answer says, whatever it is made of. */
export async function problemOf(answer: Response): Promise<Problem> {
  const body: unknown = await answer.json().catch(() => null);
  if (body && typeof body === "object" && "what" in body) {
    const { what, ...detail } = body as { what: string };
    return new Problem(answer.status, what, detail);
  }
  return new Problem(answer.status, `the server answered ${answer.status} ${answer.statusText}`.trim());
}

/** Nobody answered. */
export const unreachable = (why: unknown): Problem =>
  new Problem(0, "the server does not answer", {
    why: why instanceof Error ? why.message : String(why),
    fix: "see whether it runs: forge control. The page goes on by itself once it is back",
  });

/** Any error as a problem, for what shows them. */
export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  return new Problem(-1, error instanceof Error ? error.message : String(error));
}
