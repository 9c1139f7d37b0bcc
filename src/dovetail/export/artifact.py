"""The artifact: a folder that runs without the tool chain that made it, and that can be checked.

Nothing in it is pickled. ``manifest.json`` lists every file with its SHA-256; ``run.py`` needs numpy and one runtime.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dovetail.core.artifact import READABLE, SCHEMA_VERSION, Manifest, Variant
from dovetail.core.certificate import Certificate
from dovetail.core.errors import InputError, StorageError
from dovetail.core.protocols import Model
from dovetail.core.recipe import Recipe
from dovetail.core.serial import decode, encode
from dovetail.core.sizes import Shapes

MANIFEST = "manifest.json"
EVIDENCE = "evidence.jsonl"
TOP_FILES = (EVIDENCE, "report.html", "report.json", "run.py")
"""What lies beside the manifest and the folder of models."""
_STAGING = ".dovetail-new"
_UNHASHED = frozenset({MANIFEST})

_RUN_HEADER = '''#!/usr/bin/env python3
"""Runs the model that lies beside this file. Needs numpy and {runtime}; made by Dovetail.

    python run.py                     # random inputs: prints the outputs' shapes and the time of a call
    python run.py feeds.npz out.npz   # arrays named as the inputs in, outputs out

From a program: `from run import load; session = load(); outputs = session.run({{"name": array}})`.
"""
'''

_RUN_FOOTER = '''

MODEL = {path!r}
SHAPES = {shapes!r}  # of one call, as it was timed
VALUES = {values!r}  # that every call feeds


def load() -> "Session":
    """The session of the model beside this file."""
    from pathlib import Path

    return Session(str(Path(__file__).resolve().parent / MODEL))


def _main() -> None:
    import sys
    import time

    import numpy as np

    session = load()
    if len(sys.argv) > 1:
        with np.load(sys.argv[1], allow_pickle=False) as file:
            feeds = {{name: file[name] for name in file.files}}
    else:
        random = np.random.default_rng(0)
        feeds = {{}}
        for name, dtype, shape in session.inputs:
            free = [size if isinstance(size, int) and size > 0 else 1 for size in shape]
            value = VALUES[name] if name in VALUES else random.random(SHAPES.get(name, free))
            feeds[name] = np.broadcast_to(value, SHAPES.get(name, free)).astype(dtype)
    outputs = session.run(feeds)
    start = time.perf_counter()
    for _ in range(20):
        session.run(feeds)
    each = (time.perf_counter() - start) / 20
    for (name, _, _), value in zip(session.outputs, outputs):
        print(name, value.dtype, value.shape)
    print(f"{{each * 1e3:.3f}} ms a call (mean of 20)")
    if len(sys.argv) > 2:
        np.savez(sys.argv[2], **{{name: value for (name, _, _), value in zip(session.outputs, outputs)}})


if __name__ == "__main__":
    _main()
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One variant to write: its model files, how it runs, what is proved of it, what its passes adjusted, and more files."""

    name: str
    model: Model
    recipe: Recipe
    certificates: tuple[Certificate, ...]
    session_source: str | None
    notes: tuple[str, ...] = ()
    extras: Mapping[str, bytes] = field(default_factory=dict)


def write_artifact(
    out: Path, manifest: Manifest, entries: Sequence[Entry], evidence: Iterable[Mapping[str, Any]], texts: Mapping[str, str]
) -> Manifest:
    """Writes the folder; what was there of an earlier artifact is replaced only when the new one is whole.

    Args:
        out: the artifact's folder; it may hold other files, which stay as they are.
        manifest: with everything but ``variants`` and ``files``, which are filled in here.
        entries: variants, the answer first; the original among them.
        evidence: rows of raw samples for ``evidence.jsonl``.
        texts: file name → content (``report.html``, ``report.json``).

    Raises:
        StorageError: the folder cannot be written, or another file has the name of one of the artifact's.
        InputError: another ``manifest.json`` is there.
    """
    staging = out / _STAGING
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        variants = tuple(_write_variant(staging, entry) for entry in entries)
        _write_scripts(staging, variants, entries, next(iter(manifest.call_shapes), {}), manifest.values)
        with (staging / EVIDENCE).open("w") as file:
            for row in evidence:
                file.write(json.dumps(row) + "\n")
        for name, text in texts.items():
            (staging / name).write_text(text, encoding="utf-8")
        whole = replace(manifest, schema=SCHEMA_VERSION, variants=variants, files=hashes(staging))
        (staging / MANIFEST).write_text(json.dumps(encode(whole), indent=1, ensure_ascii=False), encoding="utf-8")
        _move_in(staging, out, whole.files)
    except StorageError:
        raise
    except OSError as exc:
        raise StorageError(f"cannot write the artifact: {exc.strerror or exc}", where=str(out)) from exc
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return whole


def _write_variant(staging: Path, entry: Entry) -> Variant:
    folder = staging / "models" / entry.name
    folder.mkdir(parents=True)
    for file in entry.model.files():
        shutil.copyfile(file, folder / file.name)
    for name, content in entry.extras.items():
        (folder / name).write_bytes(content)
    path = folder / entry.model.path.name
    return Variant(
        name=entry.name,
        path=path.relative_to(staging).as_posix(),
        format=entry.model.format,
        recipe=entry.recipe,
        certificates=entry.certificates,
        notes=entry.notes,
    )


def _write_scripts(
    staging: Path, variants: Sequence[Variant], entries: Sequence[Entry], shapes: Shapes, values: Mapping[str, object]
) -> None:
    for position, (variant, entry) in enumerate(zip(variants, entries, strict=True)):
        if entry.session_source is None:
            continue
        folder = staging / "models" / variant.name
        script = run_script(entry.session_source, entry.recipe.runtime, Path(variant.path).name, shapes, values)
        (folder / "run.py").write_text(script, encoding="utf-8")
        if position == 0:
            script = run_script(entry.session_source, entry.recipe.runtime, variant.path, shapes, values)
            (staging / "run.py").write_text(script, encoding="utf-8")


def run_script(session_source: str, runtime: str, path: str, shapes: Shapes, values: Mapping[str, object]) -> str:
    """``run.py``: the runtime's own session source between a header and a small command line.

    Args:
        session_source: of the runtime.
        runtime: its name.
        path: of the model, beside the script.
        shapes: of the feeds that it makes up.
        values: of those among them that are not random.
    """
    body = session_source.split('"""', 2)[2].lstrip("\n") if session_source.startswith('"""') else session_source
    sizes = {name: tuple(shape) for name, shape in shapes.items()}
    footer = _RUN_FOOTER.format(path=path, shapes=sizes, values=dict(values))
    return _RUN_HEADER.format(runtime=runtime) + "\n" + body.rstrip() + "\n" + footer


def hashes(folder: Path) -> dict[str, str]:
    """Relative path → SHA-256 of every file of an artifact but the manifest."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in _UNHASHED)
    return {p.relative_to(folder).as_posix(): sha256(p) for p in files}


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _move_in(staging: Path, out: Path, names: Collection[str]) -> None:
    """Puts the new files in the place of those of the artifact that was there.

    The manifest comes first: whenever this is stopped, it lists whatever of an artifact lies in the folder, so that the next
    run knows what it may replace.
    """
    taken = strangers(out, names)
    if taken:
        raise StorageError("it is there, and not of an earlier artifact", where=str(out / taken[0]), hint="move it away")
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
    for name in own_files(out).difference(names, {MANIFEST}):
        _remove(out, name)
    for name in (MANIFEST, *names):
        (staging / name).replace(out / name)


def own_files(folder: Path) -> frozenset[str]:
    """Relative paths of the files of the artifact in a folder, its manifest included; none without one.

    Raises:
        InputError: ``manifest.json`` is not an artifact's.
    """
    return frozenset({MANIFEST, *read_manifest(folder).files} if os.path.lexists(folder / MANIFEST) else ())


def strangers(folder: Path, names: Iterable[str]) -> list[str]:
    """Those of some names in a folder that a file has which is of no artifact, or that lead out of the folder.

    Raises:
        InputError: as :func:`own_files`.
    """
    own = own_files(folder)
    return [name for name in names if not _inside(folder, name) or (name not in own and os.path.lexists(folder / name))]


def _inside(folder: Path, name: str) -> bool:
    """Whether a name's place is in the folder; what a link there points to does not matter."""
    return (folder / name).parent.resolve().is_relative_to(folder.resolve())


def _remove(folder: Path, name: str) -> None:
    """Removes a file of an earlier artifact, and the folders that it leaves empty."""
    path = folder / name
    if not _inside(folder, name) or (path.is_dir() and not path.is_symlink()):
        return
    path.unlink(missing_ok=True)
    for parent in path.relative_to(folder).parents[:-1]:
        with contextlib.suppress(OSError):
            (folder / parent).rmdir()


def read_manifest(folder: Path) -> Manifest:
    """Reads ``manifest.json``.

    Raises:
        InputError: no artifact, or one of another schema.
    """
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        hint = "give the folder that `dovetail optimize --out` wrote"
        raise InputError("this is not an artifact: it has no manifest.json", where=str(folder), hint=hint) from exc
    except (OSError, ValueError) as exc:
        raise InputError(f"the manifest cannot be read: {exc}", where=str(path)) from exc
    if not isinstance(data, dict) or data.get("schema") not in READABLE:
        found = data.get("schema") if isinstance(data, dict) else None
        known = " and ".join(map(str, READABLE))
        raise InputError(f"the manifest has schema {found}; this version reads {known}", where=str(path))
    try:
        return decode(Manifest, data)
    except (AttributeError, KeyError, TypeError, ValueError, AssertionError) as exc:
        raise InputError(f"the manifest is damaged: {exc}", where=str(path)) from exc


def check_hashes(folder: Path, manifest: Manifest) -> dict[str, str]:
    """File → what is wrong with it (``missing``, ``changed``, …); empty when all is as it was written."""
    wrong = dict.fromkeys(_model_files(folder, manifest) - manifest.files.keys(), "not in the manifest")
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            wrong[name] = "outside the artifact"
        elif not path.is_file():
            wrong[name] = "missing"
        elif sha256(path) != expected:
            wrong[name] = "changed"
    return wrong


def _model_files(folder: Path, manifest: Manifest) -> set[str]:
    """Relative paths of all files that sessions would read."""
    models = [Model(path=folder / variant.path, format=variant.format) for variant in manifest.variants]
    return {os.path.relpath(file, folder) for model in models for file in model.files()}


def variant_model(folder: Path, variant: Variant) -> Model:
    """The model file of a variant.

    Raises:
        InputError: the path leaves the artifact.
    """
    path = folder / variant.path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"the path of variant {variant.name} leaves the artifact: {variant.path}", where=str(folder))
    return Model(path=path, format=variant.format)
