import { createRoot } from "react-dom/client";
import { App } from "./app";
import { readConfig } from "./api/config";
import { asProblem } from "./api/problem";
import { renew } from "./api/session";
import { startTheme } from "./shell/theme";
import "./page.css";

startTheme();
// `forge dashboard` opens /#link=…: what is behind the # reaches no server's log.
const link = /^#link=(.+)$/.exec(location.hash)?.[1];
if (link) history.replaceState(null, "", `/ui/login#${link}`);
const place = document.getElementById("page") as HTMLElement;

readConfig()
  .then(() => {
    createRoot(place).render(<App />);
    if (location.pathname !== "/ui/login" || !location.hash) renew().catch(() => undefined); // the gate shows why
  })
  .catch((error: unknown) => {
    place.textContent = `The page cannot start: ${asProblem(error).what}. Load it again.`;
  });
