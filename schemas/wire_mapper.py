"""A user's own events: a function, named `module:function`, that reads a message into our event or says why not.

It returns a BehaviourEvent, or a reason in words (the record becomes a dead letter), or SKIP (the record is not about
behaviour at all, a page view say: it is counted and left). examples/ga4_mapper.py is one, explained.
"""

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from schemas.records import BehaviourEvent
from schemas.validate import Rejection

SKIP = Rejection("skipped", "")
"""What a mapper returns for a record that is none of our business."""

Mapper = Callable[[bytes], Any]
"""bytes -> BehaviourEvent | str | SKIP; `Any`, because what a user's function really returns is checked."""


def load_mapper(name: str) -> Mapper:
    """The function that `module:function` names. Raises ValueError, saying what is missing and where it was looked for."""
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ValueError(f"--mapper is module:function, got {name!r}")
    # Like uvicorn: a module beside one's shell is found, though a console script's path does not hold the current folder.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        mapper = getattr(importlib.import_module(module_name), function_name, None)
    except ImportError as error:
        raise ValueError(f"--mapper {name}: {error}. Looked for it in {here} and in the installed packages.") from error
    except Exception as error:  # whatever a user's module does while it is imported
        raise ValueError(f"--mapper {name}: importing {module_name} raised {_where(error)}") from error
    if mapper is None:
        raise ValueError(f"--mapper {name}: module {module_name} has no {function_name}")
    if not callable(mapper):
        raise ValueError(f"--mapper {name}: {function_name} is a {type(mapper).__name__}, not a function")
    return mapper


def event_reader(mapper: Mapper) -> Callable[[bytes], BehaviourEvent | Rejection]:
    """Message to event; whatever the mapper does, the job goes on."""

    def read(message: bytes) -> BehaviourEvent | Rejection:
        try:
            mapped = mapper(message)
        except Exception as error:
            return Rejection("mapper_raised", _where(error))
        if isinstance(mapped, BehaviourEvent):
            return _with_types_checked(mapped)
        if mapped is SKIP:
            return SKIP
        if isinstance(mapped, str):
            return Rejection("mapper_refused", mapped[:500])
        return Rejection("mapper_raised", f"returned a {type(mapped).__name__}, not a BehaviourEvent, a reason or SKIP")

    return read


def _with_types_checked(event: BehaviourEvent) -> BehaviourEvent | Rejection:
    # A struct takes any value when it is built in Python; a user of None would break the fold much later.
    try:
        return msgspec.convert(msgspec.to_builtins(event), BehaviourEvent)
    except (msgspec.ValidationError, TypeError, ValueError, OverflowError, RecursionError) as error:
        return Rejection("wrong_shape", f"the mapper's event: {error}"[:500])


def _where(error: BaseException) -> str:
    frames: Any = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}"[:400] + place
