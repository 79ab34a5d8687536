"""`forge validate`: do settings fit?"""

from __future__ import annotations

import json
from typing import Any

from ...phases import COMPILED
from ..options import AsJson, Overrides, Profile, Seed, say


def validate(
    *, profile: Profile = "tiny", override: Overrides, seed: Seed = 0, as_json: AsJson = False
) -> None:
    """Check the settings of all phases and clusters, and the compiled pipeline, without running anything.

    \b
    forge validate --profile small -O bitnet.threads=4
    forge validate --json
    """
    from ...agent_forge import pipeline, text
    from ...cluster import FOLDER, load
    from ...ir import reader
    from ...settings import composed

    content: dict[str, Any] = {"phases": {}, "clusters": []}
    for config in composed(profile=profile, overrides=override, seed=seed).values():
        content["phases"][config.phase] = {"digest": config.digest, "settings": config.tree}
        if not as_json:
            say(f"ok   {config.phase:<12} {config.digest[:12]}")
    for path in sorted(FOLDER.glob("*.yaml")):
        reader.parse(text(pipeline(cluster=load(path.stem), pinned=False)))
        content["clusters"].append(path.stem)
        if not as_json:
            say(f"ok   cluster {path.stem}")
    reader.load(COMPILED)
    content["pipeline"] = str(COMPILED)
    say(json.dumps(content, indent=1) if as_json else f"ok   {COMPILED}")
