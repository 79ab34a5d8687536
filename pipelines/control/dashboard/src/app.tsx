import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { lazy, Suspense, useEffect } from "react";
import { Redirect, Route, Router, Switch } from "wouter";
import { Problem } from "./api/problem";
import { useSession } from "./api/session";
import { Loading } from "./kit/states";
import { Toasts } from "./kit/toast";
import { connection } from "./live/connection";
import { Gate, Login } from "./shell/login";
import { Shell } from "./shell/shell";

const RunsPage = lazy(() => import("./runs/RunsPage"));
const RunPage = lazy(() => import("./run/RunPage"));
const ComparePage = lazy(() => import("./compare/ComparePage"));
const ModelsPage = lazy(() => import("./models/ModelsPage"));
const ModelInspector = lazy(() => import("./models/ModelInspector"));
const AgentForgeControl = lazy(() => import("./forge/AgentForgeControl"));
const PlaygroundPage = lazy(() => import("./playground/PlaygroundPage"));
const SystemPage = lazy(() => import("./system/SystemPage"));

export const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 10_000,
      refetchOnWindowFocus: false, // the socket says what has changed
      retry: (failures, error) => error instanceof Problem && (error.unreachable || error.status === 503) && failures < 3,
    },
  },
});

export function App() {
  useEffect(() => connection.start(), []);
  return (
    <QueryClientProvider client={queries}>
      <Router>
        <Switch>
          <Route path="/ui/login" component={Login} />
          <Route component={Inside} />
        </Switch>
      </Router>
      <Toasts />
    </QueryClientProvider>
  );
}

function Inside() {
  const { state } = useSession();
  if (state !== "in") return <Gate state={state} />;
  return (
    <Shell>
      <Suspense fallback={<Loading what="the page" />}>
        <Switch>
          <Route path="/">
            <Redirect to="/ui/runs" replace />
          </Route>
          <Route path="/ui/runs" component={RunsPage} />
          <Route path="/ui/runs/:id">{({ id }) => <RunPage id={decodeURIComponent(id)} key={id} />}</Route>
          <Route path="/ui/compare" component={ComparePage} />
          <Route path="/ui/models" component={ModelsPage} />
          <Route path="/ui/models/:digest">{({ digest }) => <ModelInspector digest={digest} key={digest} />}</Route>
          <Route path="/ui/new" component={AgentForgeControl} />
          <Route path="/ui/playground" component={PlaygroundPage} />
          <Route path="/ui/system" component={SystemPage} />
          <Route>
            <h1>There is no such page</h1>
            <p>
              The runs are at <a href="/ui/runs">/ui/runs</a>.
            </p>
          </Route>
        </Switch>
      </Suspense>
    </Shell>
  );
}
