"""Several artifacts bound into one, for places where a pipeline can carry one artifact but not a list of them.

    python -m components.shared.runtime.bundle --executor-input '{{$}}'

KFP gives a list of artifacts whole to a container beside the loop that made it, and one element of it to
anything inside another loop. A bundle is an artifact whose folders `0`, `1`, … are the members, byte for byte.
`inputs.read` takes it apart again, so that a phase sees the list that was bound.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import artifact, store
from .artifact import MANIFEST, Artifact
from .errors import ForgeError, InputError

MEMBERS = "members"
"""The key of the manifest's `extra` that makes an artifact a bundle; its value is the number of members."""


def bind(members: Sequence[Artifact], target: Path, *, phase: str = "evomerge") -> Artifact:
    """Publish a bundle of `members`, in their order, at the folder `target`.

    :raises InputError: there are no members.
    """
    if not members:
        raise InputError("there is nothing to bind", where=str(target), fix="give at least one model")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        staging = Path(folder) / "bundle"
        for number, member in enumerate(members):
            for name in [*member.manifest.files, *([MANIFEST] if (member.path / MANIFEST).exists() else [])]:
                copy = staging / str(number) / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(member.path / name, copy)
        artifact.seal(
            staging,
            kind="population",
            phase=phase,
            parents=[member.digest for member in members],
            extra={MEMBERS: len(members)},
        )
        artifact.publish(staging, str(target))
    return artifact.read(target)


def members(bundle: Artifact) -> list[Artifact]:
    """The members of a bundle, verified, in their order; an artifact that is no bundle is its own only member."""
    count = bundle.manifest.extra.get(MEMBERS)
    if count is None:
        return [bundle]
    folders = [bundle.path / str(number) for number in range(int(count))]
    return [_read(folder) for folder in folders]


def _read(folder: Path) -> Artifact:
    return artifact.read(folder) if (folder / MANIFEST).exists() else artifact.adopt(folder)


def main(argv: Sequence[str] | None = None) -> int:
    """Bind what KFP's executor input names: its input artifacts, then the addresses in the parameter `uris`."""
    from . import inputs  # which takes bundles apart by `members`

    parser = argparse.ArgumentParser(prog="python -m components.shared.runtime.bundle", description=__doc__)
    parser.add_argument("--executor-input", required=True, metavar="JSON", help="what KFP passes as {{$}}")
    try:
        request = inputs.from_kfp(parser.parse_args(argv).executor_input)
        target = Path(request.target)
        found = [one for group in inputs.read(request).values() for one in group]
        with tempfile.TemporaryDirectory() as cache:
            places = [store.localise(uri, Path(cache)) for uri in request.parameters.get("uris") or []]
            found += [_read(place) for place in places]
            bound = bind(found, target)
    except ForgeError as error:
        print(f"bundle: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    metadata = {"digest": bound.digest, "bytes": bound.manifest.bytes, MEMBERS: len(found)}
    text = json.dumps({"artifacts": {request.output_name: {"artifacts": [{"metadata": metadata}]}}})
    assert request.output_file is not None  # from_kfp sets it
    request.output_file.parent.mkdir(parents=True, exist_ok=True)
    request.output_file.write_text(text)
    print(f"{target}: {len(found)} artifacts bound, {bound.manifest.bytes:,} bytes, {bound.digest[:12]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
