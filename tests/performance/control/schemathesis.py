"""Every operation of the API by what its description allows and forbids: no 5xx, no status that it does not name.

    python -m tests.performance.control.schemathesis --cases 1000

Starts a server with runs and models in it, and asks as an admin.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.attack_api.target import standing

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"

LASTING = r"/events$|/config/doctor$|/phases/(execute|\{phase\}/execute)$"
"""Streams, and what takes seconds a time: fewer cases of each."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", type=int, default=1000, help="of each operation")
    parser.add_argument("--long", type=int, default=20, help="of those that take seconds each")
    parser.add_argument("--only", default="", help="a pattern of paths")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="forge-schemathesis-") as folder,
        standing(Path(folder)) as target,
    ):
        command = [
            str(Path(sys.executable).with_name("schemathesis")), "run", f"{target.replica.url}/openapi.json",
            "--header", f"X-API-Key: {target.keys['admin']}", "--checks", CHECKS, "--seed", "1", "--continue-on-failure",
            "--phases", "examples,coverage,fuzzing", "--request-timeout", "60", "--suppress-health-check", "all",
        ]  # fmt: skip
        quick = ["--include-path-regex", options.only] if options.only else ["--exclude-path-regex", LASTING]
        rc = subprocess.run([*command, "--max-examples", str(options.cases), *quick]).returncode
        if not options.only:
            long = ["--max-examples", str(options.long), "--include-path-regex", LASTING]
            rc |= subprocess.run([*command, *long]).returncode
        failed = [line for line in target.replica.said if '"exception"' in line]
        print(f"{len(failed)} lines of the server's log have a traceback")
        print("\n".join(sorted({line[-700:] for line in failed})[:20]))
    return rc


if __name__ == "__main__":
    sys.exit(main())
