"""The rules of update masks."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from tracker_server.validation.fields import check_key
from tracker_server.validation.violations import Violations, shown


def check_mask(violations: Violations, paths: Iterable[str], plain: AbstractSet[str], keyed: AbstractSet[str]) -> None:
    """Adds what is wrong with the paths of `update_mask`.

    plain: fields that can be named whole; keyed: those of them with entries, named as FIELD.KEY, where KEY is all
    that follows the first dot.
    """
    for index, path in enumerate(paths):
        field = f"update_mask.paths[{index}]"
        name, dot, key = path.partition(".")
        if name in keyed and dot:
            check_key(violations, field, key)
        elif name not in plain or dot:
            allowed = [*sorted(plain), *(f"{name}.KEY" for name in sorted(keyed))]
            violations.add(field, f"is {shown(path)}; it must be one of {', '.join(allowed)}")
