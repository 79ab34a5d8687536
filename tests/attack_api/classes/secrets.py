"""What no answer and no line of a log has in it. The last of all attacks: it looks at what the others were answered."""

from __future__ import annotations

from tests.attack_api.attack import attack, refused
from tests.attack_api.target import CANARIES, Target

ASKED = (
    "/openapi.json",
    "/metrics/prometheus",
    "/config",
    "/config/state",
    "/system",
    "/readyz",
    "/auth/keys",
    "/auth/audit",
    "/config/schema",
    "/no/such/thing",
)


@attack("secrets")
def in_any_answer(target: Target) -> None:
    with target.http("admin") as http:
        for path in ASKED:
            http.get(path)
        http.get("/auth/me", headers={"Authorization": f"Bearer {CANARIES['JWT_SECRET']}"})
        http.post("/auth/keys", json={"name": 1, "password": "canary-of-a-password"})
    whole = "\n".join(target.answers)
    refused(len(target.answers) > 10, "nothing was answered")
    for name, canary in {**CANARIES, "password": "canary-of-a-password"}.items():
        refused(canary not in whole, f"{name} stands in an answer")
    for name, key in target.keys.items():
        refused(key not in whole, f"the key of {name} stands in an answer")
    refused("Traceback" not in whole and "site-packages" not in whole, "a trace stands in an answer")


@attack("secrets")
def in_any_log(target: Target) -> None:
    for replica in (target.replica, *target.limited):
        said = "".join(replica.said)
        for name, canary in CANARIES.items():
            refused(canary not in said, f"{name} stands in the log")
        for name, key in target.keys.items():
            refused(key not in said, f"the key of {name} stands in the log")
        refused("fl_" not in said.replace("#link=fl_", ""), "a link stands in the log")


@attack("secrets")
def in_the_dump_of_the_settings(target: Target) -> None:
    from tests.attack_api.target import settings_of

    refused(CANARIES["JWT_SECRET"] not in repr(settings_of(target)), "the signing secret is shown")
