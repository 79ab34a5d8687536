"""reasoning-gym's number_sequence with an end: the same items, in milliseconds.

Its rules square a number several times a term, so that one of 16 terms would have more digits than any memory holds, and it
looks only afterwards whether a term is above 1000, to try another rule. Here a rule gives up at the first such term, by the
error upon which the library tries another rule too: no draw differs, so every item that it would end with is the same.
"""

from __future__ import annotations

import functools

LARGEST = 1000
"""Of a term, of either sign: the library's own `is_interesting(max_value)`."""


@functools.cache
def bound_number_sequences() -> None:
    """Let the library's generator draw rules that give up; done once a process."""
    from reasoning_gym.cognition import number_sequences

    class Bounded(number_sequences.PatternRule):
        """A rule that goes no further than `LARGEST`."""

        def apply(self, sequence: list[int], position: int) -> int:
            """The next term.

            :raises OverflowError: it is too large.
            """
            term: int = super().apply(sequence, position)
            if abs(term) > LARGEST:
                raise OverflowError(f"a term above {LARGEST}")
            return term

    number_sequences.PatternRule = Bounded
