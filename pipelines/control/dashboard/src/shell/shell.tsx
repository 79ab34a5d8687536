/** What is around every page: where one can go, whether it is true, who one is. */
import { useEffect, useState, type ReactNode } from "react";
import { Link, useLocation } from "wouter";
import { leave, useSession } from "../api/session";
import { Action } from "../kit/action";
import { Dialog } from "../kit/dialog";
import { Table } from "../kit/table";
import { sayProblem } from "../kit/toast";
import { ConnectionState } from "./connection";
import { allShortcuts, listen, useShortcuts, type Shortcut } from "./keys";
import { Palette } from "./palette";
import { PLACES } from "./places";
import { toggleTheme, useTheme } from "./theme";

type Open = "" | "palette" | "help";

export function Shell({ children }: { children: ReactNode }) {
  const [path, go] = useLocation();
  const [open, show] = useState<Open>("");
  const { principal } = useSession();
  const theme = useTheme();
  useEffect(listen, []);
  useShortcuts([
    { keys: "Ctrl K", what: "Go to or do", act: () => show("palette") },
    { keys: "?", what: "Show what the keys do", act: () => show("help") },
    { keys: "/", what: "Search on this page", act: focusSearch },
    { keys: "t", what: "Dark or light", act: toggleTheme },
    { keys: "g o", what: "Log out", act: () => void leave().catch(sayProblem) },
    ...PLACES.map((place): Shortcut => ({ keys: place.keys, what: place.title, act: () => go(place.path) })),
  ]);
  useEffect(() => {
    const place = PLACES.find((candidate) => path.startsWith(candidate.path));
    const rest = decodeURIComponent(path.split("/")[3] ?? "").slice(0, 40);
    document.title = [rest, place?.title, "Agent Forge"].filter(Boolean).join(" · ");
  }, [path]);
  return (
    <>
      <a className="skip" href="#main">
        Skip to the content
      </a>
      <header className="top">
        <Link href="/ui/runs" className="brand">
          <svg viewBox="0 0 32 32" aria-hidden="true">
            <rect width="32" height="32" rx="7" fill="#c2410c" />
            <path d="M9 8h14v4h-9.5v3H21v4h-7.5v6H9z" fill="#fff" />
          </svg>
          <span className="hide-small">Agent Forge</span>
          <span className="unseen">, to the runs</span>
        </Link>
        <nav className="nav" aria-label="Pages">
          {PLACES.map((place) => (
            <Link key={place.path} href={place.path} aria-current={path.startsWith(place.path) ? "page" : undefined}>
              {place.title}
            </Link>
          ))}
        </nav>
        <div className="tools">
          <ConnectionState />
          <Action kind="quiet" aria-label="Go to or do" title="Go to or do (Ctrl K)" onClick={() => show("palette")}>
            <kbd>Ctrl K</kbd>
          </Action>
          <Action kind="quiet" aria-label={theme === "dark" ? "Light" : "Dark"} title="Dark or light (t)" onClick={toggleTheme}>
            <span aria-hidden="true">{theme === "dark" ? "☀" : "☾"}</span>
          </Action>
          <Action
            kind="quiet"
            className="hide-small"
            title={`${principal?.name ?? ""}, ${principal?.role ?? ""}: log out`}
            onClick={() => leave().catch(sayProblem)}
          >
            {principal?.name} <span className="small">log out</span>
          </Action>
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        {children}
      </main>
      {open === "palette" && <Palette close={() => show("")} />}
      {open === "help" && <Help close={() => show("")} />}
    </>
  );
}

function focusSearch(): void {
  document.querySelector<HTMLInputElement>("[data-search]")?.focus();
}

function Help({ close }: { close: () => void }) {
  return (
    <Dialog title="What the keys do" close={close}>
      <Table
        caption="keys"
        columns={[
          { title: "key", cell: ({ keys }: Shortcut) => keys.split(" ").map((key) => <kbd key={key}>{key} </kbd>) },
          { title: "what it does", cell: ({ what }) => what },
        ]}
        rows={allShortcuts()}
        id={({ keys }) => keys}
      />
      <div className="row end">
        <Action onClick={close}>Close</Action>
      </div>
    </Dialog>
  );
}
