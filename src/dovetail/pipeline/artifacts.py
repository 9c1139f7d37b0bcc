"""Opens artifacts."""

from __future__ import annotations

from pathlib import Path

from dovetail import plugins
from dovetail.core.artifact import Manifest, Variant
from dovetail.core.errors import InputError, MissingDependency
from dovetail.core.protocols import Session
from dovetail.export.artifact import check_hashes, read_manifest, variant_model


def load(folder: Path, name: str | None = None) -> Session:
    """A session of the answer, or of a named variant, as it was measured.

    Raises:
        InputError: no artifact, no such variant, or changed files.
        MissingDependency: the variant's runtime is not installed.
    """
    manifest = read_manifest(folder)
    variant = pick(manifest, name, folder)
    wrong = check_hashes(folder, manifest)
    if wrong:
        shown = ", ".join(f"{file} ({what})" for file, what in sorted(wrong.items())[:3])
        raise InputError(f"files are not as they were written: {shown}", where=str(folder), hint="make the artifact again")
    runtime = plugins.runtime(variant.recipe.runtime)
    missing = runtime.missing()
    if missing:
        raise MissingDependency(missing, where=str(folder))
    return runtime.build(variant_model(folder, variant), variant.recipe.settings)


def pick(manifest: Manifest, name: str | None, folder: Path) -> Variant:
    """The first variant, or the named one.

    Raises:
        InputError: no variant, or none of this name.
    """
    if not manifest.variants:
        raise InputError("the artifact holds no variant", where=str(folder))
    if name is None:
        return manifest.variants[0]
    for variant in manifest.variants:
        if variant.name == name:
            return variant
    known = ", ".join(v.name for v in manifest.variants)
    raise InputError(f"there is no variant {name!r}", where=str(folder), hint=f"known: {known}")
