"""A permutation of any size, computed element by element."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.data.permutation import Permutation


@given(size=st.integers(1, 200), key=st.text())
@settings(max_examples=10, deadline=None)
def test_it_is_a_permutation(size, key):
    permutation = Permutation(size, key)
    assert sorted(permutation[index] for index in range(size)) == list(range(size))


def test_keys_make_different_orders_and_one_key_always_the_same():
    orders = [[Permutation(50, key)[index] for index in range(50)] for key in ("0", "1", "0")]
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]
    assert orders[0] != list(range(50))


def test_neighbours_are_strewn_over_the_whole():
    size = 10**9
    places = [Permutation(size, "x")[index] for index in range(2000)]
    assert len(set(places)) == 2000
    tenths = [
        sum(tenth * size // 10 <= place < (tenth + 1) * size // 10 for place in places) for tenth in range(10)
    ]
    assert min(tenths) > 140  # of 200
    falls = sum(after < before for before, after in itertools.pairwise(places))
    assert 900 < falls < 1100
