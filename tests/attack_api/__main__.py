"""`make attack-api`: everything that somebody may try on the API, against real servers; 1 where one attack gets through.

python -m tests.attack_api                          # all; two minutes, since slow clients are waited for
python -m tests.attack_api --areas tokens,rights
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.attack_api.attack import Through
from tests.attack_api.registry import attacks
from tests.attack_api.target import standing


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.attack_api", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--areas", default="", help="some of them, with commas between (default: all)")
    options = parser.parse_args()
    areas = [area for area in options.areas.split(",") if area]
    chosen = [attack for attack in attacks() if not areas or attack.area in areas]
    if not chosen:
        parser.error(f"there are {', '.join(dict.fromkeys(attack.area for attack in attacks()))}")
    tried: Counter[str] = Counter()
    through: Counter[str] = Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="forge-attack-api-") as folder, standing(Path(folder)) as target:
        if not target.redis:
            print("redis-server is not installed: limits over replicas are not tried", flush=True)
        for attack in chosen:
            tried[attack.area] += 1
            start = time.monotonic()
            try:
                attack.attempt(target)
                print(f"refused  {attack}  ({time.monotonic() - start:.1f} s)", flush=True)
            except Through as error:
                through[attack.area] += 1
                print(f"THROUGH  {attack}: {error}", flush=True)
            except Exception:
                through[attack.area] += 1
                print(f"BROKEN   {attack}:\n{traceback.format_exc()}", flush=True)
    print(f"\n{'area':<12}{'tried':>8}{'through':>9}")
    for area in tried:
        print(f"{area:<12}{tried[area]:>8}{through[area]:>9}")
    print(f"{'all':<12}{tried.total():>8}{through.total():>9}   {time.monotonic() - began:.0f} s")
    return int(bool(through))


if __name__ == "__main__":
    sys.exit(main())
