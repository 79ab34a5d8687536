/** Who may come in: people and their roles, keys of programs. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { ask } from "../api/client";
import { forbidden } from "../api/session";
import { Action } from "../kit/action";
import { Confirm, Dialog } from "../kit/dialog";
import { Empty, Shown } from "../kit/states";
import { Table } from "../kit/table";
import { moment } from "../kit/time";
import { sayProblem } from "../kit/toast";

interface Key {
  id: string;
  name: string;
  principal_name: string;
  role: string;
  scopes: string[];
  created: number;
  expires: number | null;
  used: number | null;
  revoked: number | null;
}

interface Principal {
  id: string;
  name: string;
  role: string;
  disabled: boolean;
  created?: number;
}

const ROLES = ["viewer", "operator", "admin"];

export function Keys() {
  const why = forbidden("keys", "read");
  if (why) return <Empty title="Keys are not for you">{why}.</Empty>;
  return (
    <>
      <People />
      <KeyList />
    </>
  );
}

function useList<Row>(path: string) {
  return useQuery({ queryKey: [path], queryFn: ({ signal }) => ask<Row[]>("get", path, { signal }) });
}

function People() {
  const client = useQueryClient();
  const query = useList<Principal>("/auth/principals");
  const [name, write] = useState("");
  const [role, choose] = useState("viewer");
  const [link, show] = useState("");
  const why = forbidden("keys", "write");
  const again = (): void => void client.invalidateQueries({ queryKey: ["/auth/principals"] });
  const change = (id: string, body: Partial<Principal>): void => void ask("patch", "/auth/principals/{id}", { path: { id }, body }).then(again, sayProblem);
  const invite = (id: string): void =>
    void ask<{ link: string }>("post", "/auth/principals/{id}/link", { path: { id } }).then((made) => show(`${location.origin}/ui/login#${made.link.replace(/^.*#/, "")}`), sayProblem);
  return (
    <section className="stack">
      <h2>People and programs</h2>
      <Shown query={query} what="who may come in">
        {(rows) => (
          <Table
            caption="Principals"
            columns={[
              { title: "name", cell: (row: Principal) => row.name },
              {
                title: "role",
                cell: (row) => (
                  <select aria-label={`Role of ${row.name}`} value={row.role} disabled={Boolean(why)} onChange={(event) => change(row.id, { role: event.target.value })}>
                    {ROLES.map((one) => (
                      <option key={one}>{one}</option>
                    ))}
                  </select>
                ),
              },
              { title: "may come in", cell: (row) => (row.disabled ? "no" : "yes") },
              {
                title: "change",
                cell: (row) => (
                  <span className="row">
                    <Action why={why} onClick={() => change(row.id, { disabled: !row.disabled })}>
                      {row.disabled ? "Let in" : "Shut out"}
                    </Action>
                    <Action why={why || (row.disabled ? "let it in first" : "")} onClick={() => invite(row.id)}>
                      Link
                    </Action>
                  </span>
                ),
              },
            ]}
            rows={rows}
            id={(row) => row.id}
          />
        )}
      </Shown>
      <form
        className="row"
        onSubmit={(event) => {
          event.preventDefault();
          if (why || !name.trim()) return;
          ask("post", "/auth/principals", { body: { name: name.trim(), role } }).then(() => {
            write("");
            again();
          }, sayProblem);
        }}
      >
        <input aria-label="Name" placeholder="name" value={name} onChange={(event) => write(event.target.value)} />
        <select aria-label="Role" value={role} onChange={(event) => choose(event.target.value)}>
          {ROLES.map((one) => (
            <option key={one}>{one}</option>
          ))}
        </select>
        <Action type="submit" why={why || (name.trim() ? "" : "give a name")}>
          Add
        </Action>
      </form>
      {link && <Secret title="A link that lets in once" text={link} close={() => show("")} />}
    </section>
  );
}

function KeyList() {
  const client = useQueryClient();
  const query = useList<Key>("/auth/keys");
  const [name, write] = useState("");
  const [made, show] = useState("");
  const [gone, end] = useState<Key | null>(null);
  const why = forbidden("keys", "write");
  const again = (): void => void client.invalidateQueries({ queryKey: ["/auth/keys"] });
  return (
    <section className="stack">
      <h2>Keys</h2>
      <Shown query={query} what="the keys">
        {(rows) => (
          <Table
            caption="Keys"
            empty="There is none. Programs send one as X-API-Key."
            columns={[
              { title: "name", cell: (row: Key) => row.name || row.id },
              { title: "of", cell: (row) => `${row.principal_name} (${row.role})` },
              { title: "may", wide: true, cell: (row) => row.scopes.join(", ") || "all of its role" },
              { title: "used", number: true, cell: (row) => moment(row.used) },
              { title: "ends", number: true, cell: (row) => (row.revoked ? "revoked" : row.expires ? moment(row.expires) : "never") },
              {
                title: "change",
                cell: (row) => (
                  <Action kind="danger" why={forbidden("keys", "delete") || (row.revoked ? "it is revoked" : "")} onClick={() => end(row)}>
                    Revoke
                  </Action>
                ),
              },
            ]}
            rows={rows}
            id={(row) => row.id}
          />
        )}
      </Shown>
      <form
        className="row"
        onSubmit={(event) => {
          event.preventDefault();
          if (why || !name.trim()) return;
          ask<{ key: string }>("post", "/auth/keys", { body: { name: name.trim() } }).then(({ key }) => {
            show(key);
            write("");
            again();
          }, sayProblem);
        }}
      >
        <input aria-label="Name of the key" placeholder="what it is for" value={name} onChange={(event) => write(event.target.value)} />
        <Action type="submit" why={why || (name.trim() ? "" : "say what it is for")}>
          Make a key
        </Action>
      </form>
      {made && <Secret title="The new key: it is seen this once" text={made} close={() => show("")} />}
      {gone && (
        <Confirm
          title="Revoke this key"
          name={gone.name || gone.id}
          verb="Revoke it"
          close={() => end(null)}
          confirmed={() => void ask("delete", "/auth/keys/{id}", { path: { id: gone.id } }).then(again, sayProblem)}
        >
          <p>Whoever uses it is refused from the next request on.</p>
        </Confirm>
      )}
    </section>
  );
}

function Secret({ title, text, close }: { title: string; text: string; close: () => void }) {
  return (
    <Dialog title={title} close={close}>
      <pre tabIndex={0}>{text}</pre>
      <div className="row end">
        <Action onClick={() => void navigator.clipboard.writeText(text)}>Copy</Action>
        <Action kind="primary" onClick={close}>
          Done
        </Action>
      </div>
    </Dialog>
  );
}
