/** In by a one-time link. Who has no session sees how to get one. */
import { useEffect, useState, type FormEvent } from "react";
import { useLocation } from "wouter";
import { asProblem } from "../api/problem";
import { enter, renew, type Session } from "../api/session";
import { Action } from "../kit/action";
import { Trouble } from "../kit/states";

const BACK = "forge.back";

/** `/ui/login#code`: the code is behind the #, so it is in no server's log; and gone from the address once used. */
export function Login() {
  const [, go] = useLocation();
  const [error, fail] = useState<unknown>(null);
  const [code, write] = useState("");
  const use = (link: string): void => {
    fail(null);
    enter(link)
      .then(() => {
        const back = sessionStorage.getItem(BACK) ?? "/ui/runs";
        sessionStorage.removeItem(BACK);
        go(back, { replace: true });
      })
      .catch(fail);
  };
  useEffect(() => {
    const given = decodeURIComponent(location.hash.slice(1));
    if (!given) return;
    history.replaceState(null, "", "/ui/login");
    use(given);
    // once, at the start
  }, []);
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    use(code.trim().replace(/^.*#/, ""));
  };
  return (
    <main className="gate">
      <form className="card" onSubmit={submit}>
        <h1>Log in to Agent Forge</h1>
        {error !== null && <Trouble error={error} />}
        <p>
          A link lets one person in, once. <code>forge dashboard</code> opens one by itself; <code>forge keys link</code> makes another.
        </p>
        <label className="field">
          <span>The link, or its code</span>
          <input value={code} onChange={(event) => write(event.target.value)} autoComplete="off" spellCheck={false} />
        </label>
        <div className="row end">
          <Action type="submit" kind="primary" why={code ? "" : "paste the link first"}>
            Log in
          </Action>
        </div>
      </form>
    </main>
  );
}

export function Gate({ state }: { state: Session["state"] }) {
  const [, go] = useLocation();
  const [error, fail] = useState<unknown>(null);
  useEffect(() => {
    if (state === "out") {
      sessionStorage.setItem(BACK, location.pathname + location.search);
      go("/ui/login", { replace: true });
      return undefined;
    }
    const again = (): void => void renew().then(() => fail(null), fail);
    again();
    const timer = setInterval(again, 3000);
    return () => clearInterval(timer);
  }, [state, go]);
  return (
    <main className="gate">
      {error ? (
        <div className="card">
          <h1>{asProblem(error).what}</h1>
          <p className="soft">{asProblem(error).detail.fix ?? "The page tries again every three seconds."}</p>
        </div>
      ) : (
        <p className="soft" role="status">
          <span className="spinner" aria-hidden="true" /> Agent Forge
        </p>
      )}
    </main>
  );
}
