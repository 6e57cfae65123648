"""`bench import`: recognises a published file, converts it, checks it strictly, and says what it found."""

from __future__ import annotations

import errno
import pickle
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from omegaconf import OmegaConf

from ocwm import registry
from ocwm.artifacts import sha256_of_file
from ocwm.checkpoint import save
from ocwm.config import instantiate
from ocwm.context import DataReport
from ocwm.errors import BenchError
from ocwm.foreign_file import ForeignFile, read_foreign
from ocwm.import_report import file_facts, folder_facts, text_of
from ocwm.importer import Imported, PickleImporter, WeightsImporter
from ocwm.video_files import read_first_frames
from ocwm.whole_files import put_in_place

_LIKE = 0.5  # share of an architecture's marks from which a file is taken for one
_CHECKED_FRAMES = 6  # a training clip of StoSAVi
_WIDENED = (torch.float16, torch.bfloat16)
_LEGACY_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # the number that files of old torches begin with
_SHOWN = 3


def import_published(
    path: Path, *, kind: str | None = None, output: Path | None = None, force: bool = False, check: Path | None = None
) -> DataReport:
    """Convert a published file into what encoders, methods and tasks read.

    Args:
        path: the file.
        kind: name of the importer; None recognises the file by what it holds.
        output: file (weights) or folder (slots) to write; None puts it beside `path`.
        force: replace an existing `output`.
        check: video, or folder of images, that weights with a decoder reconstruct in both orders of colours.

    Returns:
        What was found and written.

    Raises:
        BenchError: the file is missing, damaged, harmful, of no known or of another kind, does not fit its class
            exactly; the output exists; the disk is full.
    """
    if kind is not None:
        registry.find("importer", kind)
    if not path.is_file():
        what = "is a folder: name a file in it" if path.is_dir() else "does not exist"
        raise BenchError(f"{path} {what}", "Give a published checkpoint or slot pickle.")
    importers = {name: _importer(name) for name in registry.plugins("importer")}
    if _is_torch(path):
        weights = {name: one for name, one in importers.items() if isinstance(one, WeightsImporter)}
        if kind is not None and kind not in weights:
            raise BenchError(f"{path} is a file of torch.save, and --as {kind} reads plain pickles", _known(weights))
        return _import_weights(path, weights, kind=kind, output=output, force=force, check=check)
    if not _is_pickle(path):
        raise BenchError(f"{path} is neither a file of torch.save nor a pickle", _hint(path))
    pickles = {name: one for name, one in importers.items() if isinstance(one, PickleImporter)}
    if kind is not None and kind not in pickles:
        raise BenchError(f"{path} is a plain pickle, and --as {kind} reads files of torch.save", _known(pickles))
    if kind is None and len(pickles) != 1:
        raise BenchError(f"{path} is a plain pickle, and several importers read such", _known(pickles))
    if check is not None:
        raise BenchError("--check-frames needs weights with a decoder", "Leave the option out.")
    name = kind or next(iter(pickles))
    return _import_pickle(path, name, pickles[name], output=output, force=force)


def _import_weights(
    path: Path,
    importers: Mapping[str, WeightsImporter],
    *,
    kind: str | None,
    output: Path | None,
    force: bool,
    check: Path | None,
) -> DataReport:
    target = _target(path, output, force=force) if output is not None else None
    file = read_foreign(path)
    name = recognise(path, file, importers, kind=kind)
    target = target or _target(path, path.with_name(f"{path.stem}.{name}.safetensors"), force=force)
    imported = importers[name].convert(file.tensors)
    check_strictly(path, imported)
    order = None
    if check is not None:
        order = importers[name].frame_order(imported, read_first_frames(check, count=_CHECKED_FRAMES))
    stored = {key: tensor.float() if tensor.dtype in _WIDENED else tensor for key, tensor in imported.tensors.items()}
    meta = {"imported": name, "sha256": sha256_of_file(path), "sizes": dict(imported.sizes)}
    save(target, stored, meta)
    facts = file_facts(path, name, file, imported, output=target, order=order, sha256=sha256_of_file(target))
    return DataReport(facts, text_of(facts))


def recognise(
    path: Path, file: ForeignFile, importers: Mapping[str, WeightsImporter], *, kind: str | None = None
) -> str:
    """Return the name of the importer for a file: `kind` where it fits, else the one whose marks it has.

    Raises:
        BenchError: the file looks like another kind, like none, or like several.
    """
    scores = {name: importer.matches(file.tensors.keys()) for name, importer in importers.items()}
    best = max(scores.values(), default=0.0)
    likest = [name for name, score in scores.items() if score == best and score >= _LIKE]
    if kind is not None and scores[kind] >= _LIKE:
        return kind
    if not likest:
        first = ", ".join(f"'{name}'" for name in list(file.tensors)[:_SHOWN])
        asked = f", and no {kind} in particular" if kind is not None else ""
        raise BenchError(
            f"{path} holds {len(file.tensors)} tensors of no known architecture{asked}: {first}, ...", _known(importers)
        )
    if kind is not None:
        raise BenchError(
            f"{path} looks like a checkpoint of {' or '.join(likest)}, and you asked for --as {kind}",
            f"Use --as {likest[0]}, or leave --as out.",
        )
    if len(likest) > 1:
        raise BenchError(f"{path} looks like {' and like '.join(likest)}", f"Choose one of them: --as {likest[0]}.")
    return likest[0]


def check_strictly(path: Path, imported: Imported) -> None:
    """Compare names and shapes with our class in the inferred sizes.

    Raises:
        BenchError: anything is missing, left over or of another shape; the first of each are named.
    """
    sizes = ", ".join(f"{key}={value}" for key, value in imported.sizes.items())
    try:
        with torch.device("meta"):
            ours = {name: tuple(tensor.shape) for name, tensor in imported.build().state_dict().items()}
    except (ValueError, RuntimeError, ArithmeticError) as error:
        raise BenchError(f"{path} looks like {imported.title}, but none can have {sizes}: {error}") from error
    theirs = {name: tuple(tensor.shape) for name, tensor in imported.tensors.items()}
    wrong = [f"'{n}' {theirs[n]} instead of {ours[n]}" for n in ours if n in theirs and ours[n] != theirs[n]]
    problems = [
        _first("missing", [f"'{name}'" for name in ours if name not in theirs]),
        _first("unexpected", [f"'{name}'" for name in theirs if name not in ours]),
        _first("wrong shape", wrong),
    ]
    if found := "; ".join(problem for problem in problems if problem):
        raise BenchError(
            f"{path} looks like {imported.title} with {sizes}, but does not fit it exactly: {found}",
            "It is damaged, or of another version: nothing was written.",
        )


def _import_pickle(path: Path, name: str, importer: PickleImporter, *, output: Path | None, force: bool) -> DataReport:
    target = _target(path, output or path.with_name(f"{path.stem}.{name}"), force=force)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        converted = importer.convert(path, temporary)
        put_in_place(temporary, target)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else f"{error.strerror or error}"
        raise BenchError(f"could not write {target}: {what}", "Mend that, or give another --output.") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    facts = folder_facts(path, name, converted, output=target)
    return DataReport(facts, text_of(facts))


def _target(path: Path, output: Path, *, force: bool) -> Path:
    if output.exists():
        if output.samefile(path):
            raise BenchError(f"{output} is the published file itself", "Give another --output.")
        if not force:
            raise BenchError(f"{output} exists already", "Give another --output, or --force to replace it.")
    return output


def _importer(name: str) -> object:
    plugin = registry.find("importer", name)
    return instantiate(OmegaConf.create({"_target_": plugin.target, "name": name}))


def _is_torch(path: Path) -> bool:
    """Whether a file is of `torch.save`: a zip file, or the pickle of torch's number."""
    head = _head(path)
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise BenchError(f"{path} is truncated: a zip file without its end", "Copy or download it again.")
    return head.startswith(b"PK") or _LEGACY_MAGIC in head


def _is_pickle(path: Path) -> bool:
    head = _head(path)
    return head[:1] == pickle.PROTO or head[:1] in (b"(", b"}", b"]", b"c")  # protocols 0 and 1 have no mark


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise BenchError(f"can't read {path}: {error.strerror}", "Check its permissions.") from error


def _hint(path: Path) -> str:
    if path.suffix == ".safetensors":
        return "Converted files need no import: name it with encoder.weights=FILE."
    return "Give what was published: .pth, .ckpt or .pkl; unpack archives first."


def _known(names: Iterable[str]) -> str:
    return f"Known to --as: {', '.join(sorted(names))} (bench list importers)."


def _first(problem: str, names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{problem} {', '.join(names[:_SHOWN])}{more}" if names else ""
