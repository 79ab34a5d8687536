"""A Kubeflow Pipelines API on this machine: it keeps what it is sent, answers as the API does, and fails as networks do."""

import json
import re
import socket
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

RUN = "91db5f79-d1b0-4594-95fb-5f0c48db45d5"
LOGIN = b"<!doctype html><html><body><form action='/dex/auth'>Log in to Your Account</form></body></html>"


class Handler(BaseHTTPRequestHandler):
    """Each fault in `server.faults` meets one request, in order; `server.always` meets every one after them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.handle_one("GET", None)

    def do_POST(self):
        self.handle_one("POST", self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def handle_one(self, method, body):
        parts = urlsplit(self.path)
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if body and "json" in self.headers.get("Content-Type", ""):
            body = json.loads(body)
        self.server.seen.append((method, parts.path, asked, dict(self.headers), body))
        fault = self.server.faults.pop(0) if self.server.faults else self.server.always
        if fault is None:
            self.respond(parts.path, method, asked, body)
        elif isinstance(fault, int):
            self.answer({"code": 16, "message": f"fault {fault}"}, status=fault)
        else:
            getattr(self, f"fault_{fault}")()

    def fault_drop(self):
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def fault_hang(self):
        self.server.released.wait(30)
        self.close_connection = True

    def fault_html(self):
        self.send(LOGIN, "text/html; charset=utf-8")

    def fault_redirect(self):
        self.send(b"", "text/html", status=302, Location="/dex/auth?client_id=x")

    def fault_page502(self):
        self.send(b"<html>502 Bad Gateway</html>", "text/html", status=502)

    def fault_cut(self):
        self.send(b'{"run_id": "', "application/json")

    def fault_empty(self):
        self.answer({})

    def respond(self, path, method, asked, body):
        server = self.server
        if found := re.fullmatch(r"/apis/v2beta1/runs/([^/:]+)(:terminate|:retry)?", path):
            if found[1] not in server.runs:
                return self.answer({"code": 5, "message": f"Run {found[1]} not found"}, status=404)
            if found[2]:
                server.calls.append(found[2])
                return self.answer({})
            states = server.runs[found[1]]
            return self.answer(states.pop(0) if len(states) > 1 else states[0])
        if path == "/apis/v2beta1/runs" and method == "POST":
            server.runs.setdefault(RUN, [{"run_id": RUN, "state": "SUCCEEDED"}])
            return self.answer({"run_id": RUN})
        if path == "/apis/v2beta1/runs":
            runs = [states[0] for states in server.runs.values()]
            if "filter" in asked:
                name = json.loads(asked["filter"])["predicates"][0]["stringValue"]
                runs = [run for run in runs if run.get("display_name") == name]
            return self.answer({"runs": runs} if runs else {})
        if path == "/apis/v2beta1/experiments":
            return self.answer({"experiment_id": "e1"} if method == "POST" else {})
        if path == "/apis/v2beta1/healthz":
            return self.answer({"tag_name": "2.17.0", "multi_user": False})
        if path.startswith("/apis/v2beta1/pipelines"):
            return self.pipelines(path, method, asked, body)
        if path in server.texts:
            return self.send(server.texts[path].encode(), "text/plain")
        return self.send(LOGIN, "text/html")  # as KFP's UI answers for a path that it does not know

    def pipelines(self, path, method, asked, body):
        known = self.server.pipelines
        if found := re.fullmatch(r"/apis/v2beta1/pipelines/names/(.+)", path):
            if found[1] not in known:
                return self.answer({"code": 5, "message": "not found"}, status=404)
            return self.answer({"pipeline_id": known[found[1]]["id"]})
        if path == "/apis/v2beta1/pipelines":
            known[body["name"]] = {"id": f"p-{uuid.uuid4()}", "versions": {}}
            return self.answer({"pipeline_id": known[body["name"]]["id"]})
        if path == "/apis/v2beta1/pipelines/upload_version":
            pipeline = next(one for one in known.values() if one["id"] == asked["pipelineid"])
            pipeline["versions"][asked["name"]] = body
            return self.answer({"pipeline_version_id": "v1"})
        pipeline = next(one for one in known.values() if f"/{one['id']}/" in f"{path}/")
        if path.endswith("/versions"):
            name = json.loads(asked["filter"])["predicates"][0]["stringValue"]
            found = [{"name": one, "display_name": one} for one in pipeline["versions"] if one == name]
            return self.answer({"pipeline_versions": found} if found else {})
        return self.answer({"pipeline_spec": pipeline["spec"]})

    def answer(self, content, status=200):
        self.send(json.dumps(content).encode(), "application/json", status=status)

    def send(self, body, kind, status=200, **headers):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class KubeflowServer(ThreadingHTTPServer):
    """`runs` holds what each GET of a run answers, one after the other; the last stays."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen, self.calls, self.faults, self.always = [], [], [], None
        self.runs, self.pipelines, self.texts = {}, {}, {}
        self.released = threading.Event()
        self.host = f"http://127.0.0.1:{self.server_port}"

    def bodies(self, path):
        """What was posted to a path of the API."""
        return [body for method, at, _, _, body in self.seen if method == "POST" and at.endswith(path)]

    def paths(self):
        """What was asked for, in order."""
        return [f"{method} {path}" for method, path, *_ in self.seen]


def serve(server):
    """Serve until the test is over."""
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    if hasattr(server, "released"):
        server.released.set()
    server.shutdown()
    server.server_close()


def detail(name, state, start="2026-08-01T10:00:00Z", end="2026-08-01T10:05:00Z"):
    """A task in `run_details`, as KFP 2.17 writes it."""
    end = end if state not in ("RUNNING", "PENDING") else "1970-01-01T00:00:00Z"
    return {
        "task_id": str(uuid.uuid4()),
        "display_name": name,
        "state": state,
        "start_time": start,
        "end_time": end,
    }


def task(title, *needs):
    """A task of a compiled pipeline, with the tasks that it needs."""
    return {
        "taskInfo": {"name": title},
        "componentRef": {"name": "comp-any"},
        "dependentTasks": list(needs),
        "cachingOptions": {"enableCache": True},
    }


def spec(**tasks):
    """A compiled pipeline of containers; names are written with _ for -."""
    named = {name.replace("_", "-"): one for name, one in tasks.items()}
    return {
        "pipeline_spec": {
            "pipelineInfo": {"name": "agent-forge"},
            "root": {"dag": {"tasks": named}},
            "components": {"comp-any": {"executorLabel": "exec-any"}},
            "deploymentSpec": {"executors": {"exec-any": {"container": {"image": "x"}}}},
        },
        "platform_spec": {},
    }


CHAIN = spec(
    cognate_trunk=task("cognate-trunk"),
    cognate=task("cognate-variant-1", "cognate-trunk"),
    cognate_2=task("cognate-variant-2", "cognate-trunk"),
    evomerge=task("evomerge", "cognate", "cognate-2"),
    quietstar=task("quietstar", "evomerge"),
)


def run(state, *details, **more):
    """A run as the API has it."""
    return {
        "run_id": RUN,
        "display_name": "first",
        "state": state,
        "created_at": "2026-08-01T10:00:00.123456789Z",
        "finished_at": "2026-08-01T11:00:00Z"
        if state in ("SUCCEEDED", "FAILED", "CANCELED")
        else "1970-01-01T00:00:00Z",
        "pipeline_spec": CHAIN,
        "run_details": {"task_details": list(details)},
        **more,
    }
