"""A genome in the words of the model card."""

from __future__ import annotations

import json

from components.evomerge.card import group_name, rows, shares
from components.evomerge.search.genome import Genome
from components.evomerge.search.space import SearchSpace

SPACE = SearchSpace(parents=2, groups=3, methods=("ties", "dfs"), layers=5, repeats=1, deepest=5)


def test_the_card_says_every_gene_that_the_method_reads_and_gives_the_genome_back() -> None:
    genome = Genome("ties", ((1, 3), (1, 1), (0, 1)), scales=(20, 30, 10), density=4)
    card = rows(genome, SPACE, ["a", "b"], 2)
    assert card["weights, layers 0 to 2"] == "a 0.25, b 0.75; λ 1.00"
    assert card["weights, layers 3 to 4"] == "a 0.50, b 0.50; λ 1.50"
    assert card["weights, embedding, norm and head"] == "a 0.00, b 1.00; λ 0.50"
    assert card["density"] == "0.20" and "alpha" not in card
    assert Genome.from_json(json.loads(card["genes"].strip("`"))) == genome


def test_the_names_of_groups_are_those_of_the_merge() -> None:
    from components.shared.merging.layer_groups import LayerStack

    stack = LayerStack("model.layers.", 5)
    for layer in range(5):
        group = stack.group(f"model.layers.{layer}.x.weight", 2)
        first, _, last = group_name(group, SPACE, 2).removeprefix("layers ").partition(" to ")
        assert int(first) <= layer <= int(last or first)


def test_a_layer_path_is_told_place_by_place() -> None:
    genome = Genome("dfs", ((1, 1),) * 3, path=(1, 1, 0, 0, 0, 0, 0, 1, 1, 1), hops=(20,) * 10)
    assert rows(genome, SPACE, ["a", "b"], 2)["layers"] == "a 0 · a 1 · b 2 · b 3 · b 4"
    table = shares(genome, SPACE, ["a", "b"], 2)
    assert table["groups"][:3] == ["layer 0", "layer 1", "layer 2"] and len(table["groups"]) == 6
    assert table["parents"]["a"] == [1.0, 1.0, 0.0, 0.0, 0.0, 0.5]
