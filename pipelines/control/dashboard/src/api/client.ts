/** The one way to the API: with the token, renewed once where it has run out, and patient where the server asks for it. */
import createClient from "openapi-fetch";
import { apiAddress } from "./config";
import { Problem, problemOf, unreachable } from "./problem";
import { current, renew } from "./session";

const PATIENCE_SECONDS = 20;

/** A request as whoever looks; a 401 is tried once more with a new token. */
export async function asked(input: Request): Promise<Response> {
  const again = input.clone();
  let answer = await sent(input, current().token);
  if (answer.status === 401 && (await renew())) answer = await sent(again.clone(), current().token);
  if (answer.status === 429 && input.method === "GET") {
    const seconds = Number(answer.headers.get("retry-after") ?? 1);
    if (seconds <= PATIENCE_SECONDS) {
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
      answer = await sent(again, current().token);
    }
  }
  return answer;
}

async function sent(request: Request, token: string): Promise<Response> {
  if (token) request.headers.set("authorization", `Bearer ${token}`);
  try {
    return await fetch(request, { credentials: "include" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw unreachable(error);
  }
}

type Method = "get" | "post" | "put" | "delete" | "patch";

export interface Asking {
  path?: Record<string, string | number>;
  query?: Record<string, unknown>;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  as?: "json" | "text";
}

let client: ReturnType<typeof createClient<Record<string, never>>> | null = null;

/** Ask, and have what is answered. Throws a `Problem`. */
export async function ask<Answer>(method: Method, url: string, asking: Asking = {}): Promise<Answer> {
  client ??= createClient<Record<string, never>>({ baseUrl: apiAddress() || location.origin, fetch: asked });
  const request = client.request as unknown as (
    method: Method,
    url: string,
    init: unknown,
  ) => Promise<{ data?: unknown; error?: unknown; response: Response }>;
  const { data, error, response } = await request(method, url, {
    params: { path: asking.path, query: given(asking.query) },
    body: asking.body,
    headers: asking.headers,
    signal: asking.signal,
    parseAs: asking.as ?? "json",
  });
  if (response.ok) return data as Answer;
  if (error && typeof error === "object" && "what" in error) {
    const { what, ...detail } = error as { what: string };
    throw new Problem(response.status, what, detail);
  }
  throw response.bodyUsed ? new Problem(response.status, `the server answered ${response.status}`) : await problemOf(response);
}

/** What is asked for, without what is not. */
function given(query: Record<string, unknown> = {}): Record<string, unknown> {
  return Object.fromEntries(Object.entries(query).filter(([, value]) => value !== undefined && value !== "" && value !== null));
}
