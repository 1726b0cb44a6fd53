"""Last-writer-wins: any order and any repetition of the same changes give the same fields and maps."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker_server.model.registers import FieldRegister, Key, MapRegister
from tracker_server.model.run import apply_changes
from tracker_server.model.typed_json import Json
from tracker_server.model.writes import MapChange


@dataclass(frozen=True)
class Change:
    """What one write does to one field and one map."""

    key: Key
    value: int
    change: MapChange


names = st.sampled_from(["a", "b", "c"])


@st.composite
def changes(draw: st.DrawFn) -> list[Change]:
    """Changes with keys of their own, as writer and sequence make them."""
    made = []
    for sequence in range(1, draw(st.integers(0, 9)) + 1):
        key = Key(draw(st.integers(0, 1)), draw(st.integers(-1, 1)), draw(st.sampled_from(["v", "w"])), sequence)
        entries = draw(st.dictionaries(names, st.integers(0, 9), max_size=2))
        removed = tuple(name for name in draw(st.lists(names, max_size=2, unique=True)) if name not in entries)
        made.append(Change(key, sequence, MapChange(draw(st.booleans()), entries, removed)))
    return made


def apply(order: list[Change], reload_at: int = -1) -> tuple[FieldRegister, MapRegister]:
    field, map_register = FieldRegister("first"), MapRegister()
    for index, change in enumerate(order):
        apply_changes({"f": field}, {"m": map_register}, {"f": change.value}, {"m": change.change}, change.key)
        if index == reload_at:
            field = FieldRegister.load(field.value, field.save())
            map_register = MapRegister.load(map_register.values, map_register.save())
    return field, map_register


def naive(history: list[Change]) -> tuple[Json, dict[str, Json]]:
    """The changes one after the other, in the order of their keys."""
    value: Json = "first"
    entries: dict[str, Json] = {}
    for change in sorted(history, key=lambda change: change.key):
        value = change.value
        if change.change.replace:
            entries = {}
        entries |= change.change.set
        for name in change.change.remove:
            entries.pop(name, None)
    return value, entries


@given(changes(), st.integers(0, 2**32), st.integers(-1, 12))
def test_any_order_and_repetition_is_as_if_applied_by_key(history: list[Change], seed: int, reload_at: int) -> None:
    order = [*history, *history[::2]]
    random.Random(seed).shuffle(order)
    field, map_register = apply(order, reload_at)
    value, entries = naive(history)
    assert field.value == value
    assert map_register.values == entries
    again_field, again_map = apply(history)
    assert (field, map_register) == (again_field, again_map)


@given(changes())
def test_what_was_saved_loads_as_the_same(history: list[Change]) -> None:
    field, map_register = apply(history)
    assert FieldRegister.load(field.value, field.save()) == field
    assert MapRegister.load(map_register.values, map_register.save()) == map_register


def test_a_late_older_set_does_not_bring_a_removed_entry_back() -> None:
    register = MapRegister()
    register.set("a", 1, Key(0, 1, "w", 1))
    register.remove("a", Key(0, 3, "w", 3))
    register.set("a", 2, Key(0, 2, "w", 2))
    assert register.values == {}


def test_a_higher_attempt_beats_a_later_time() -> None:
    register = FieldRegister()
    register.set("new attempt", Key(2, 0, "w", 1))
    register.set("old attempt", Key(1, 10**12, "w", 2))
    assert register.value == "new attempt"


@pytest.mark.parametrize("saved", [[1, 2], "x", [1, 2, "w", 3, 4]])
def test_a_key_of_another_shape_is_refused(saved: Json) -> None:
    with pytest.raises(ValueError, match="is no key"):
        FieldRegister.load(1, saved)
