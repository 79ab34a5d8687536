from components.adas.families import held_out

SUMS = ["chain"]


def test_a_level_with_too_few_questions_gives_all_it_has():
    few = held_out(SUMS, "report", [1], 1000, seed=0)
    assert 8 < len(few) < 1000 and len({item.prompt for item in few}) == len(few)


def test_tasks_and_levels_share_what_is_asked_for():
    items = held_out(SUMS, "report", [1, 2], 40, seed=0)
    assert [item.level for item in items] == [1] * 20 + [2] * 20
