"""One queue over what a machine has: nothing is promised twice, nobody waits for ever, and whoever waits knows for what."""

from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.control.services.pools import GIB, Demand, Grant, Pools
from pipelines.control.services.queue import STEP_SECONDS, Waiting, beginning, ordered

MEMORY = int(16 * GIB)


def machine(gpus: int = 2, slots: int = 6) -> Pools:
    return Pools([str(number) for number in range(gpus)], slots, MEMORY, lambda: (MEMORY, {}))


def waiting(
    run: str, *, owner: str = "a", priority: int = 0, created: float = 0.0, waited: float = 0.0, **demand: int
) -> Waiting:
    return Waiting(run, owner, priority, created, waited, Demand(**{"slots": 1, **demand}))


@dataclass
class Arrival:
    at: int
    run: Waiting
    lasts: int


arrivals = st.lists(
    st.builds(
        lambda number, owner, priority, at, lasts, gpus, slots, memory: Arrival(
            at,
            Waiting(f"r{number}", owner, priority, float(at), 0.0, Demand(gpus, slots, int(memory * GIB))),
            lasts,
        ),
        st.integers(0, 10_000),
        st.sampled_from(["a", "b", "c"]),
        st.integers(-10, 10),
        st.integers(0, 30),
        st.integers(1, 10),
        st.integers(0, 1),
        st.integers(1, 12),
        st.floats(0.1, 40.0),
    ),
    min_size=1,
    max_size=25,
    unique_by=lambda arrival: arrival.run.run,
)


@settings(max_examples=60, deadline=None)
@given(arrivals)
def test_nothing_is_promised_twice_and_everybody_begins(coming: list[Arrival]) -> None:
    pools, queue, ends = machine(), {}, {}
    begun: set[str] = set()
    for minute in range(4000):
        queue |= {one.run.run: one for one in coming if one.at == minute}
        for run in [run for run, end in ends.items() if end <= minute]:
            pools.give_back(run)
            del ends[run]
        order = ordered(
            [
                replace(one.run, waited=(minute - one.at) * 60.0)
                for one in queue.values()
                if one.run.run not in begun
            ],
            {},
        )
        begin, why = beginning(order, pools)
        assert {*begin, *why} == {one.run for one in order}
        for run, grant in begin.items():
            pools.give(run, grant)
            begun.add(run)
            ends[run] = minute + queue[run].lasts
        names = [name for grant in pools.given.values() for name in grant.gpus]
        assert len(names) == len(set(names))
        assert sum(grant.slots for grant in pools.given.values()) <= pools.slots
        assert sum(grant.memory_bytes for grant in pools.given.values()) <= MEMORY
        if len(begun) == len(coming):
            return
    raise AssertionError("somebody waits for ever")


def test_what_waits_says_for_what() -> None:
    pools = machine()
    pools.give("first", Grant((), 2, int(12 * GIB)))
    _, why = beginning([waiting("second", memory_bytes=int(6.1 * GIB))], pools)
    assert why == {"second": "waits for 6.1 GiB of memory: 4.0 free, run first has 12.0"}


def test_what_the_first_lacks_is_kept_for_it_and_the_rest_is_not() -> None:
    pools = machine(gpus=1)
    pools.give("holder", Grant(("0",), 1, 0))
    order = [
        waiting("wants the gpu", gpus=1, created=1),
        waiting("wants it too", gpus=1, created=2),
        waiting("wants none", created=3),
    ]
    begin, why = beginning(order, pools)
    assert set(begin) == {"wants none"}
    assert why["wants it too"].endswith("after wants the gpu")


def test_a_run_that_is_larger_than_the_machine_gets_all_of_it() -> None:
    pools = machine(gpus=0)
    begin, _ = beginning([waiting("huge", gpus=1, slots=64, memory_bytes=int(900 * GIB))], pools)
    assert begin["huge"] == Grant((), 6, MEMORY)


def test_who_is_alone_gets_the_gpus_that_nobody_waits_for() -> None:
    begin, _ = beginning([waiting("one", gpus=1, slots=3)], machine(gpus=4))
    assert begin["one"].gpus == ("0", "1", "2")
    begin, _ = beginning([waiting("one", gpus=1, slots=3), waiting("two", gpus=1)], machine(gpus=4))
    assert begin["one"].gpus == ("0",)


def test_owners_take_turns_and_importance_comes_first() -> None:
    queue = [
        waiting("a1", created=1),
        waiting("a2", created=2),
        waiting("b1", owner="b", created=3),
        waiting("a3", priority=1, created=4),
    ]
    assert [one.run for one in ordered(queue, {})] == ["a3", "b1", "a1", "a2"]
    assert [one.run for one in ordered(queue[:3], {"b": 2})] == ["a1", "a2", "b1"]


def test_waiting_long_enough_outweighs_importance() -> None:
    queue = [waiting("old", waited=3 * STEP_SECONDS), waiting("new", priority=2, created=9)]
    assert [one.run for one in ordered(queue, {})] == ["old", "new"]


def test_memory_that_others_use_is_not_given_away() -> None:
    pools = Pools([], 6, MEMORY, lambda: (int(5 * GIB), {"first": int(2 * GIB)}))
    pools.give("first", Grant((), 1, int(4 * GIB)))
    assert pools.free().memory_bytes == int(3 * GIB)  # two of the five are promised, and not used yet
