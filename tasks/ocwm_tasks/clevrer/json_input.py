"""Reads JSON files, and says where they are broken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ocwm.errors import BenchError

_AGAIN = "Copy or download it again."


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        BenchError: the file can't be read, or is no JSON; names file, line and column.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise BenchError(f"can't read {path}: {error.strerror}", "Check the path and its permissions.") from error
    except json.JSONDecodeError as error:
        message = f"{path} is no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise BenchError(message, _AGAIN) from error
    except UnicodeDecodeError as error:
        raise BenchError(f"{path} is no JSON: byte {error.start} is no text", _AGAIN) from error


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever goes wrong with the contents of a file into one line that names it.

    Raises:
        BenchError: a field is missing or holds something else than expected.
    """
    try:
        yield
    except KeyError as error:
        raise BenchError(f"{path} is no {what}: the field {error} is missing", _AGAIN) from error
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise BenchError(f"{path} is no {what}: {error}", _AGAIN) from error
