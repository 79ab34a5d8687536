"""The container that binds a list of artifacts into one bundle.

python -m components.shared.runtime.bind --executor-input '{{$}}'
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import bundle, inputs
from .errors import ForgeError
from .places import localise


def main(argv: Sequence[str] | None = None) -> int:
    """Bind what KFP's executor input names: its input artifacts, then the addresses in the parameter `uris`."""
    parser = argparse.ArgumentParser(prog="python -m components.shared.runtime.bind", description=__doc__)
    parser.add_argument("--executor-input", required=True, metavar="JSON", help="what KFP passes as {{$}}")
    try:
        request = inputs.from_kfp(parser.parse_args(argv).executor_input)
        target = Path(request.target)
        found = [one for group in inputs.read(request).values() for one in group]
        with tempfile.TemporaryDirectory() as cache:
            places = [localise(uri, Path(cache)) for uri in request.parameters.get("uris") or []]
            found += [bundle.member(place) for place in places]
            bound = bundle.bind(found, target)
    except ForgeError as error:
        print(f"bind: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    metadata = {"digest": bound.digest, "bytes": bound.manifest.bytes, bundle.MEMBERS: len(found)}
    text = json.dumps({"artifacts": {request.output_name: {"artifacts": [{"metadata": metadata}]}}})
    assert request.output_file is not None  # from_kfp sets it
    request.output_file.parent.mkdir(parents=True, exist_ok=True)
    request.output_file.write_text(text)
    print(f"{target}: {len(found)} artifacts bound, {bound.manifest.bytes:,} bytes, {bound.digest[:12]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
