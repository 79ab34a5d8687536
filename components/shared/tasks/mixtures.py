"""Mixtures by name: what the stages of data of a course are made of, usable wherever weights of tasks are asked for.

    tasks: puzzles                                   the mixture alone
    tasks: { mixture:puzzles: 2, chain: 1 }          two thirds of it beside a task
    levels: { mixture:puzzles: [1, 2], chain: [3] }  levels of all its tasks

sanity        one short word copied: what any network that learns at all learns first
arc           ARC-AGI's puzzles as they are, the same turned and recoloured, rules on one row, generated ones
puzzles       algorithms, games, logic, graphs, induction: reasoning-gym's, with the words and orders of this project
mathematics   arithmetic, algebra, geometry: reasoning-gym's, with the chains of this project
text          stories and questions about them, and text to be worked upon
long_context  facts in documents of up to 32 thousand tokens: found, told apart, followed through their changes

The names are those of the data stages of a course; levels stay a setting of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.shared.runtime.errors import ConfigError
from components.shared.runtime.wording import did_you_mean

PREFIX = "mixture:"

_PUZZLES = (
    "ab acre aiw binary_alternation binary_matrix boxnet circuit_logic coin_flip color_cube_rotation countdown"
    " course_schedule cryptarithm emoji_mystery family_relationships figlet_font futoshiki game_of_life"
    " game_of_life_halting graph_color isomorphic_strings jugs kakurasu knight_swap knights_knaves largest_island"
    " list_functions mahjong_puzzle manipulate_matrix maze mini_sudoku modulo_grid n_queens number_filtering"
    " number_sequence number_sorting palindrome_generation palindrome_partitioning path_star pool_matrix"
    " propositional_logic puzzle24 quantum_lock ransom_note rectangle_count rotate_matrix rotten_oranges rubiks_cube"
    " rush_hour self_reference shortest_path sokoban spiral_matrix string_insertion string_manipulation"
    " string_splitting string_synthesis sudoku survo syllogism tower_of_hanoi tsumego zebra_puzzles"
)
_MATHEMATICS = (
    "advanced_geometry base_conversion basic_arithmetic bf bitwise_arithmetic calendar_arithmetic chain_sum"
    " complex_arithmetic count_bits count_primes decimal_arithmetic decimal_chain_sum dice fraction_simplification gcd"
    " gsm_symbolic intermediate_integration lcm leg_counting number_format polynomial_equations"
    " polynomial_multiplication power_function prime_factorization products simple_equations simple_geometry"
    " simple_integration time_intervals"
)
_TEXT = (
    "caesar_cipher group_anagrams letter_counting letter_jumble sentence_reordering spell_backward word_ladder"
    " word_sequence_reversal word_sorting"
)


def _gym(names: str) -> dict[str, float]:
    """reasoning-gym's tasks of these names, all equally often."""
    return {f"gym/{name}": 1.0 for name in names.split()}


MIXTURES: dict[str, dict[str, float]] = {
    "sanity": {"copy": 1.0},
    "arc": {
        "arc": 4.0,
        "arc/augmented": 4.0,
        "arc1d": 2.0,
        "gym/arc_1d": 1.0,
        "gym/arc_agi": 1.0,
        "gym/rearc": 1.0,
    },
    "puzzles": {"reverse": 4.0, "sort": 4.0, "next": 4.0, "letter": 4.0, "count": 4.0, "max": 4.0}
    | _gym(_PUZZLES),
    "mathematics": {"chain": 10.0, "augmented": 5.0} | _gym(_MATHEMATICS),
    "text": {"prose": 4.0, "cloze": 4.0, "recall": 2.0, "request": 1.0} | _gym(_TEXT),
    "long_context": {"long/needle": 1.0, "long/recall": 1.0, "long/latest": 1.0, "gym/needle_haystack": 0.5},
}
"""Name → task → how often it is drawn, in proportion."""


def mixture_named(name: str) -> dict[str, float]:
    """The weights of a mixture, which sum to one.

    :raises ConfigError: there is none of this name.
    """
    if name not in MIXTURES:
        raise ConfigError(
            f"there is no mixture {name!r}", where="tasks", fix=did_you_mean(name, sorted(MIXTURES))
        )
    total = sum(MIXTURES[name].values())
    return {task: weight / total for task, weight in MIXTURES[name].items()}


def spread(weights: Any) -> Any:
    """Weights in which a mixture's name stands for its tasks; what is no such thing comes back as it is.

    :param weights: a name, or task or `mixture:NAME` → weight, which the mixture's tasks share.
    :raises ValueError: there is no mixture of this name.
    """
    if isinstance(weights, str):
        weights = {PREFIX + weights.removeprefix(PREFIX): 1.0}
    if not isinstance(weights, Mapping) or not any(str(name).startswith(PREFIX) for name in weights):
        return weights
    tasks: dict[str, Any] = {}
    for name, weight in weights.items():
        if not str(name).startswith(PREFIX):
            tasks[name] = tasks.get(name, 0.0) + weight
            continue
        for task, share in _named(str(name)).items():
            tasks[task] = tasks.get(task, 0.0) + float(weight) * share
    return tasks


def spread_levels(levels: Any) -> Any:
    """Levels task by task in which a mixture's name stands for its tasks; what is said of a task itself counts.

    :raises ValueError: there is no mixture of this name.
    """
    if not isinstance(levels, Mapping) or not any(str(name).startswith(PREFIX) for name in levels):
        return levels
    mixed = {task: levels[name] for name in levels if name.startswith(PREFIX) for task in _named(name)}
    return mixed | {name: chosen for name, chosen in levels.items() if not name.startswith(PREFIX)}


def _named(name: str) -> dict[str, float]:
    try:
        return mixture_named(name.removeprefix(PREFIX))
    except ConfigError as error:
        raise ValueError(f"{error.what}, {error.fix}") from error
