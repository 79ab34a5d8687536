"""Names that are paths, addresses that lead elsewhere, texts that are code."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

from tests.attack_api.attack import attack, refused
from tests.attack_api.classes.rights import described
from tests.attack_api.raw import exchange
from tests.attack_api.target import DIGEST, PLACE, Target

TRAVERSALS = (
    "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "..%252f..%252fetc",
    "//etc/passwd",
    "/etc/passwd",
    "..\\..\\etc\\passwd",
    "..%5c..%5cetc",
    "%00",
    "a%00b",
    "control",
    "control/jwt-secret",
    "../control/control.db",
    ".",
    "..",
    "~root",
    "%c0%ae%c0%ae/etc",
    "latest",
    "file:///etc/passwd",
    "CON",
    "a" * 3000,
    "%0d%0aX-Evil: 1",
    "\u202e",
)
SQL = (
    "'",
    '"',
    "' OR '1'='1",
    "1; DROP TABLE run; --",
    "%27%20UNION%20SELECT%20sha256%20FROM%20api_key--",
    "run.id",
    "created DESC",
    "\\",
    "%",
    "_",
    "*",
    "$1",
    ":x",
    "{}",
    "[]",
    "AAAA",
    "eyJhIjogMX0",
    "-1",
    "1e9",
    "NaN",
    "9" * 100,
    "\x1b[31m",
)
SCRIPT = "<script>alert(1)</script>"
PASSWD = re.compile(r"root:.*:0:0:")


@attack("paths", slow=True)
def names_that_climb(target: Target) -> None:
    """As every parameter of every path, raw on the wire: no file of the machine, no 5xx."""
    key = f"X-API-Key: {target.keys['admin']}\r\n"
    wrong = []
    for method, path, _ in described(target):
        if "{" not in path or method != "GET" or path.endswith("/events"):
            continue
        for name in TRAVERSALS:
            raw = quote(name, safe="/%:\\~.")
            places = [re.sub(r"\{[^}]+\}", lambda _, raw=raw: raw, path)]
            last = path.rindex("{")
            places.append(re.sub(r"\{[^}]+\}", DIGEST, path[:last]) + raw)
            for place in places:
                request = f"GET {place} HTTP/1.1\r\nHost: localhost\r\n{key}Connection: close\r\n\r\n"
                status, got = exchange(target.replica, request.encode())
                text = got.decode("utf-8", "replace")
                if (
                    (status >= 500 and status != 503)
                    or status == 0
                    or PASSWD.search(text)
                    or "SQLite format" in text
                    or "canary" in text
                ):
                    wrong.append(f"{place[:80]}: {status}")
    refused(not wrong, "; ".join(wrong[:20]))


@attack("paths", slow=True)
def statements_in_every_query(target: Target) -> None:
    """In each parameter that OpenAPI names: 2xx or 4xx, and the tables are there afterwards."""
    wrong = []
    spec = target.http().get("/openapi.json").json()["paths"]
    with target.http("admin") as http:
        for path, methods in spec.items():
            get = methods.get("get", {})
            if path.endswith("/events"):
                continue
            for parameter in get.get("parameters", []):
                if parameter["in"] == "cookie":
                    continue
                for text in SQL:
                    place = re.sub(r"\{[^}]+\}", quote(text) if parameter["in"] == "path" else "none", path)
                    query = {parameter["name"]: text} if parameter["in"] == "query" else {}
                    headers = {parameter["name"]: quote(text)} if parameter["in"] == "header" else {}
                    status = http.get(place, params=query, headers=headers).status_code
                    if status >= 500 and status != 503:
                        wrong.append(f"{path} {parameter['name']}={text[:30]!r}: {status}")
        refused(not wrong, "; ".join(wrong[:20]))
        refused(http.get("/phases/runs").json()["runs"], "the runs are gone")


@attack("places")
def addresses_that_lead_elsewhere(target: Target) -> None:
    """Wherever a body names an address, only the configured store and folder of runs are asked."""
    elsewhere = (
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1:8083/auth/keys",
        "s3://other/x",
        f"{PLACE}@evil.example/x",
        f"{PLACE}/../../x",
        f"{PLACE}2/x",
        f"{PLACE}#@evil.example",
        f"{PLACE}?x",
        "//etc",
        "/etc",
        str(target.folder / "runs" / "control"),
        str(target.folder / "control.db"),
        "minio://other/x",
        "gopher://127.0.0.1/x",
        "hf://evil/model",
        "~/.ssh",
        "../../../etc",
        "\\\\evil\\share",
        "ftp://127.0.0.1/x",
    )
    requests = (
        ("/models/import", lambda address: {"address": address}),
        (
            "/phases/execute",
            lambda address: {
                "start_phase": "bitnet",
                "end_phase": "bitnet",
                "artifacts": [address],
                "dry_run": True,
            },
        ),
        ("/phases/execute", lambda address: {"base_models": [address], "dry_run": True}),
        ("/phases/bitnet/execute", lambda address: {"input_model": [address]}),
    )
    wrong = []
    with target.http("operator") as http:
        for path, body in requests:
            for address in elsewhere:
                answer = http.post(path, json=body(address))
                if answer.status_code not in (403, 404, 422) or PASSWD.search(answer.text):
                    wrong.append(f"{path} {address}: {answer.status_code}")
    refused(not wrong, "; ".join(wrong[:20]))


@attack("injection")
def lines_and_colours_in_names(target: Target) -> None:
    """What is written into the log is one line, and JSON."""
    with target.http("admin", **{"X-Request-ID": "a\x1b[31mb"}) as http:
        http.post("/auth/principals", json={"name": 'a\r\n{"status": 200}'})
        http.get("/phases/runs/x%0d%0a%7B%22status%22%3A1%7D%1b%5b31m")
        http.get("/phases/runs", params={"q": "\r\nforged\x1b[2J"})
    lines = [line for replica in (target.replica, *target.limited) for line in replica.said]
    refused(not any("\x1b" in line or line.startswith("forged") for line in lines), "a forged line")
    for line in lines:
        if line.startswith("{"):
            refused("level" in json.loads(line), f"no line of ours: {line[:80]}")


@attack("injection")
def scripts_in_names(target: Target) -> None:
    """They are kept as texts and given back as JSON that no browser takes for a page."""
    with target.http("admin") as http:
        http.post("/auth/principals", json={"name": SCRIPT})
        http.post("/auth/keys", json={"name": SCRIPT})
        http.put(f"/models/{DIGEST}/tags/{quote(SCRIPT, safe='')}")
        for path in (
            "/auth/principals",
            "/auth/keys",
            f"/models/{DIGEST}",
            f"/phases/runs/{quote(SCRIPT)}",
            f"/phases/{quote(SCRIPT)}",
        ):
            answer = http.get(path)
            kind = answer.headers["content-type"]
            refused(SCRIPT not in answer.text or kind.startswith("application/json"), f"{path}: {kind}")
            refused("script-src 'self'" in answer.headers["content-security-policy"], path)
