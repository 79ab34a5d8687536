/** Where the API is: `config.json` beside the page says it at start, so one built page serves every place. */

let address = "";

/** Read it once, before anything is asked. */
export async function readConfig(): Promise<void> {
  const answer = await fetch("/config.json", { cache: "no-store" });
  const { api } = (await answer.json()) as { api: string };
  address = api.replace(/\/+$/, "");
}

/** The API's address: empty where it serves the page itself. */
export const apiAddress = (): string => address;

/** The same for a WebSocket. */
export function socketAddress(path: string): string {
  const url = new URL(address || location.origin);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return `${url.origin}${path}`;
}
