"""Tables of plain values, checked against a struct.

As `livespt.config.parse` does for a run's config, in words of this room and without what a config
needs: the guard is to start at once and to stay small.
"""

from __future__ import annotations

import difflib
import math
from typing import Any

import msgspec

from livespt.control.errors import ControlError


def convert(raw: Any, kind: type[Any], where: str) -> Any:
    """Turn a table into the struct `kind`, or say which key is wrong.

    Raises
    ------
    ControlError
        It is no table, a key is unknown or missing, or a value is of the wrong type or range.
    """
    if not isinstance(raw, dict):
        raise ControlError(f"{where}: expected a table")
    known = [field.name for field in msgspec.structs.fields(kind)]
    for key, value in raw.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f" (known: {', '.join(known)})"
            raise ControlError(f"{where}: unknown key '{key}'{hint}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ControlError(f"{where}.{key}: {value}; expected a finite number")
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        text, _, at = str(error).partition(" - at `$")
        raise ControlError(f"{where}{at.rstrip('`')}: {text[0].lower()}{text[1:]}") from None
