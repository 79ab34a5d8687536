/** A dialog of the browser itself: it holds the focus, and Escape closes it. */
import { useEffect, useId, useRef, useState, type ReactNode } from "react";
import { Action } from "./action";

interface Props {
  title: string;
  close: () => void;
  children: ReactNode;
}

export function Dialog({ title, close, children }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const element = dialog.current;
    if (element && !element.open) element.showModal();
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-labelledby={id}
      onClose={close}
      onClick={(event) => event.target === dialog.current && close()}
    >
      <div className="dialog">
        <h2 id={id}>{title}</h2>
        {children}
      </div>
    </dialog>
  );
}

interface ConfirmProps {
  title: string;
  /** What has to be typed. */
  name: string;
  verb: string;
  children: ReactNode;
  close: () => void;
  confirmed: () => void;
}

/** What destroys is confirmed by typing the name of what is destroyed. */
export function Confirm({ title, name, verb, children, close, confirmed }: ConfirmProps) {
  const [typed, type] = useState("");
  const right = typed === name;
  return (
    <Dialog title={title} close={close}>
      <form
        method="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          if (!right) return;
          confirmed();
          close();
        }}
      >
        {children}
        <label className="field">
          <span>
            Type <b className="mono">{name}</b> to confirm
          </span>
          <input value={typed} onChange={(event) => type(event.target.value)} autoComplete="off" spellCheck={false} autoFocus />
        </label>
        <div className="row end">
          <Action onClick={close}>Keep it</Action>
          <Action type="submit" kind="danger" why={right ? "" : "type the name first"}>
            {verb}
          </Action>
        </div>
      </form>
    </Dialog>
  );
}
