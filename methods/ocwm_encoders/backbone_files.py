"""Where the files of a pretrained backbone are: a local folder, or the hub's cache on this machine.

The network is asked only for a hub name that is not cached, and it must answer within seconds.
"""

from __future__ import annotations

import json
import os
import re
import urllib.request
from pathlib import Path
from typing import Any

from ocwm.errors import BenchError

CONFIG, WEIGHTS = "config.json", "model.safetensors"

_REACHABLE_S = 5
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_TRUE = {"1", "true", "yes", "on"}


def find_folder(name: str, *, encoder: str) -> Path:
    """Return the folder with a backbone's files: `name` itself, else the hub's cache, else downloaded into it.

    Args:
        name: a folder, or a model of the hub such as "facebook/dinov2-small".
        encoder: what asks, for messages.

    Raises:
        BenchError: it is neither here nor can be had from the hub (offline: nothing is tried).
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if lacking := [file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]:
            raise BenchError(
                f"{folder} lacks {' and '.join(lacking)}",
                f"encoder.weights wants a folder with {CONFIG} and {WEIGHTS}.",
            )
        return folder
    import huggingface_hub
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of whichever client it uses

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise BenchError(f"no folder at {folder}", _hint(name))
    cached = [huggingface_hub.try_to_load_from_cache(name, file) for file in (CONFIG, WEIGHTS)]
    if all(isinstance(path, str) for path in cached):
        return Path(str(cached[0])).parent
    missing = f"the weights '{name}' of the encoder '{encoder}' are not on this machine"
    if any(os.environ.get(variable, "").lower() in _TRUE for variable in _OFFLINE):
        raise BenchError(f"{missing}, and it is set to work offline", _hint(name))
    if not _reachable(name):
        raise BenchError(f"{missing}, and {_endpoint()} does not answer with them", _hint(name))
    try:
        paths = [huggingface_hub.hf_hub_download(name, file) for file in (CONFIG, WEIGHTS)]
    except (OSError, ValueError, RuntimeError, HTTPError) as error:
        raise BenchError(f"{missing}, and downloading them failed: {error}", _hint(name)) from error
    return Path(paths[0]).parent


def read_config(folder: Path) -> dict[str, Any]:
    """Return the config.json of a backbone.

    Raises:
        BenchError: it can't be read.
    """
    try:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(f"can't read {folder / CONFIG}: {error}") from error
    if not isinstance(content, dict):
        raise BenchError(f"{folder / CONFIG} must hold a JSON object")
    return content


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _reachable(name: str) -> bool:
    """Whether the hub answers soon; the hub's own client would try again and again."""
    request = urllib.request.Request(f"{_endpoint()}/{name}/resolve/main/{CONFIG}", method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_REACHABLE_S):
            return True
    except (OSError, ValueError):
        return False


def _hint(name: str) -> str:
    return (
        f"Fetch them once with `hf download {name}` on a machine with network (cache: HF_HOME), or put {CONFIG} and "
        f"{WEIGHTS} into a folder and name it: encoder.weights=FOLDER."
    )
