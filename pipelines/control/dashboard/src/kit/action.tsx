/** Buttons that say why they cannot be pressed. */
import { useId, type ButtonHTMLAttributes, type ReactNode } from "react";

interface Props extends Omit<ButtonHTMLAttributes<HTMLButtonElement>, "disabled"> {
  /** Why not; empty where it can be. A reader hears it, a pointer sees it. */
  why?: string | undefined;
  kind?: "plain" | "primary" | "danger" | "quiet";
  children: ReactNode;
}

export function Action({ why = "", kind = "plain", children, onClick, className = "", ...more }: Props) {
  const id = useId();
  return (
    <>
      <button
        type="button"
        {...more}
        className={`button ${kind} ${className}`}
        aria-disabled={why ? true : undefined}
        aria-describedby={why ? id : undefined}
        title={why || more.title}
        onClick={why ? (event) => event.preventDefault() : onClick}
      >
        {children}
      </button>
      {why && (
        <span id={id} className="unseen">
          {why}
        </span>
      )}
    </>
  );
}
