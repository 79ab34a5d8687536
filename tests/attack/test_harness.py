"""The harness can fail: what is planted is noticed, and can be repeated."""

import re
import time

from tests.attack import planted
from tests.attack.campaign import Campaign, in_turn, table


def campaign(folder, said):
    return Campaign({"planted": planted}, seed=3, folder=folder, jobs=4, say=said.append)


def test_every_planted_loss_hang_and_traceback_is_noticed_and_a_refusal_is_none(tmp_path):
    said = []
    attacked = campaign(tmp_path, said)
    attacked.prepare(["planted"])
    tally = attacked.run(list(in_turn({"planted": planted.COUNT})), time.monotonic() + 60)
    verdicts = {number: ended.verdict for (_, number), ended in tally.failed.items()}
    expected = {number: verdict for number, (_, verdict) in enumerate(planted.KINDS) if verdict != "survived"}
    assert verdicts == expected, {number: ended.note for (_, number), ended in tally.failed.items()}
    assert tally.tried["planted"] == planted.COUNT and tally.survived["planted"] == 1
    row = table(tally, ["planted"]).splitlines()[1].split()
    assert row[:6] == ["planted", "10", "1", "4", "1", "4"]
    assert f"again: python -m tests.attack --seed 3 --only planted:{7} --keep" in "\n".join(said)
    hang = tally.failed["planted", 4].note
    assert re.search(r"planted\.py.*in hangs", hang), hang  # where it hangs


def test_no_attempt_begins_when_the_time_is_up(tmp_path):
    tally = campaign(tmp_path, []).run([("planted", 9)], time.monotonic() - 1)
    assert not tally.tried


def test_every_class_has_its_share_at_every_moment():
    order = list(in_turn({"many": 30, "few": 3}))
    assert len(order) == len(set(order)) == 33
    assert [name for name, _ in order[:11]].count("few") == 1
