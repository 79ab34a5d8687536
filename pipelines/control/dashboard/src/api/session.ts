/** Who looks at the page. The access token lives in memory only; a cookie that scripts cannot read renews it. */
import { useSyncExternalStore } from "react";
import { apiAddress } from "./config";
import { problemOf, unreachable } from "./problem";
import type { Principal } from "./shapes";

export interface Session {
  state: "asking" | "in" | "out";
  token: string;
  principal: Principal | null;
}

interface Granted {
  access_token: string;
  expires: number;
  principal: Principal;
}

let session: Session = { state: "asking", token: "", principal: null };
const listeners = new Set<() => void>();
let renewing: Promise<boolean> | null = null;

function become(next: Session): void {
  session = next;
  listeners.forEach((listener) => listener());
}

export const current = (): Session => session;

export function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const useSession = (): Session => useSyncExternalStore(subscribe, current);

async function post(path: string, body: unknown, token = ""): Promise<Response> {
  try {
    return await fetch(apiAddress() + path, {
      method: "POST",
      credentials: "include",
      headers: { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) },
      body: JSON.stringify(body),
    });
  } catch (error) {
    throw unreachable(error);
  }
}

function admit({ access_token: token, principal }: Granted): void {
  become({ state: "in", token, principal });
}

/** Come in by a one-time link's code. */
export async function enter(link: string): Promise<void> {
  const answer = await post("/auth/exchange", { link });
  if (!answer.ok) throw await problemOf(answer);
  admit((await answer.json()) as Granted);
}

/**
 * A new access token by the cookie; false where the session has ended.
 *
 * One at a time, over all tabs: a refresh token that comes twice counts as stolen.
 */
export function renew(): Promise<boolean> {
  const used = session.token;
  renewing ??= exclusively(async () => {
    const answer = await post("/auth/refresh", {});
    if (answer.ok) {
      admit((await answer.json()) as Granted);
      return true;
    }
    if (answer.status === 401 || answer.status === 403) {
      if (session.token === used) become({ state: "out", token: "", principal: null });
      return false;
    }
    throw await problemOf(answer);
  }).finally(() => {
    renewing = null;
  });
  return renewing;
}

async function exclusively(work: () => Promise<boolean>): Promise<boolean> {
  if (!("locks" in navigator)) return work(); // a page that came over plain HTTP from another machine
  return await navigator.locks.request("forge-session", work);
}

/** Leave: the server forgets the session too. */
export async function leave(): Promise<void> {
  await post("/auth/logout", {}, session.token);
  become({ state: "out", token: "", principal: null });
}

/** Why an action is not for whoever looks; empty where it is. */
export function forbidden(resource: string, action: string, owner?: string): string {
  const who = session.principal;
  if (!who) return "log in first";
  if (!(who.rights[resource] ?? []).includes(action)) {
    return `a ${who.role} may not ${action} ${resource}; ask an admin`;
  }
  if (owner !== undefined && action !== "read" && who.role !== "admin" && owner !== "" && owner !== who.id) {
    return "it belongs to somebody else; its owner or an admin may";
  }
  return "";
}
