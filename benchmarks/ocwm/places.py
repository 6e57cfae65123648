"""Configurations and overrides as records keep them: without where things lie on one machine.

Whatever lies there is told apart by its hash, which is in the identity; its name is kept for people.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

from omegaconf import OmegaConf

from ocwm.identity import Values

_HERE_ONLY = ("home", "results")  # of the runtime: folders of whoever runs it
_FOLDERS = re.compile(r"""(?<=[=,\["'])(?:~|\.\.)?/(?:[^,\]"'/]*/)*(?=[^,\]"'/])""")  # all but the last part of a path


def recorded_config(values: Values) -> dict[str, Any]:
    """Return a resolved configuration as JSON values, with the last part of every path that leads out of the work folder."""
    plain: Any = OmegaConf.to_container(values, resolve=True) if OmegaConf.is_config(values) else values
    runtime = {key: value for key, value in plain["runtime"].items() if key not in _HERE_ONLY}
    named: dict[str, Any] = _named({**plain, "runtime": runtime})
    return named


def recorded_override(text: str) -> str:
    """Return an override as a record keeps it: `encoder.weights=/a/b.safetensors` becomes `encoder.weights=b.safetensors`."""
    return _FOLDERS.sub("", text)


def _named(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _named(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_named(one) for one in value]
    if isinstance(value, str) and value.startswith(("/", "~/", "../")):
        return PurePath(value).name
    return value
