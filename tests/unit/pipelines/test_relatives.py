"""Which models of a run another of its models comes from."""

from pipelines.runs.relatives import label_of, relatives


def model(phase, parents, score, **extra):
    scores = {"a": {"score": score, "low": score, "high": score, "chance": 0.0}} if score is not None else {}
    return {"phase": phase, "parents": parents, "scores": scores, "extra": extra}


RUN = {
    "s": model("cognate", ["trunk"], 0.3, variant="standard"),
    "m": model("cognate", ["trunk"], 0.5, variant="memory"),
    "e": model("evomerge", ["s", "m"], 0.6),
    "b": model("bitnet", ["e"], 0.4),
}


def test_the_model_before_and_the_base_are_found_along_the_parents():
    assert relatives(RUN, "b") == {"before": "e", "base": "m"}


def test_of_several_parents_the_best_stands_for_all_and_before_the_base_there_is_nothing():
    assert relatives(RUN, "e") == {"base": "m"}
    assert relatives(RUN, "s") == {} == relatives(RUN, "unknown")


def test_a_base_without_scores_and_a_circle_end_the_search():
    run = {"a": model("x", ["b"], None), "b": model("y", ["a"], None)}
    assert relatives(run, "a") == {"base": "b"}


def test_a_model_is_called_by_its_phase_and_variant():
    assert (label_of(RUN["s"]), label_of(RUN["e"])) == ("cognate standard", "evomerge")
