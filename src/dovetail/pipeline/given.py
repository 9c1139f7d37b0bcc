"""The user's data at a second look, and which of them the fit used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dovetail.core.errors import InputError
from dovetail.core.protocols import Array
from dovetail.core.verification import Check
from dovetail.data.dataset import StoredDataset, write_view
from dovetail.data.job import FitJob
from dovetail.data.prepare import store_all
from dovetail.data.split import units_of
from dovetail.pipeline.describe import cache_folder
from dovetail.workloads.load import load_onnx, signature
from dovetail.workloads.recurrence import detect_state

CERTIFICATION = "certification"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Samples that the user gives.

    Attributes:
        samples: all of them.
        judged: those that quality may be judged on; ``None`` where none is left.
        certified: how many of those certified the fit; ``None`` where it records no samples.
        state: recurrent input → output that carries it.
    """

    samples: StoredDataset
    judged: StoredDataset | None
    certified: int | None
    state: Mapping[str, str]

    @property
    def role(self) -> str:
        """What the judged ones were to the fit: ``certification``, ``unseen``, or ``unknown``."""
        return "unknown" if self.certified is None else CERTIFICATION if self.certified else "unseen"

    @property
    def check(self) -> Check:
        """What the fit had to do with the data."""
        if self.certified is None:
            detail = "the artifact does not record which samples its fit used: quality is judged on all that are given"
            hint = "give samples that the fit has not seen, or make the artifact again"
            return Check(name="data", status="warning", detail=detail, hint=hint)
        judged = 0 if self.judged is None else len(self.judged)
        left = f"{len(self.samples) - judged:,} of {len(self.samples):,} samples calibrated or selected in the fit"
        if not judged:
            detail, hint = f"{left}: none is left to judge quality on", "give samples that the fit has not seen"
            return Check(name="data", status="warning", detail=detail, hint=hint)
        kinds = f"{self.certified:,} of them certified the fit, {judged - self.certified:,} are new to it"
        return Check(name="data", status="ok", detail=f"{left}; quality is judged on {judged:,}: {kinds}")


def read_given(job: FitJob, used: Mapping[str, Array] | None) -> Given:
    """Reads the data that a job names, and leaves out what calibrated or selected in a fit: that cannot judge its answer.

    Args:
        job: model, data and how to read them.
        used: split of the fit → hashes of its samples; ``None`` where nothing is known of them.

    Raises:
        DovetailError: the model or the data cannot be read.
    """
    inputs, outputs = signature(load_onnx(str(job.model), weights=False))
    state = dict(job.state or detect_state(inputs, outputs))
    files = job.files()
    if files is None:
        raise InputError("no data are given", where="data")
    home = cache_folder() / "splits"
    samples = store_all(files, job.model_copy(update={"state": state}).request(inputs), home / "verify")
    if used is None:
        return Given(samples=samples, judged=samples, certified=None, state=state)
    rows = _left(samples, used)
    judged = write_view(home / "verify-judged", samples, rows, name=CERTIFICATION) if len(rows) else None
    certified = int(_among(samples.digests[rows], used, CERTIFICATION).sum())
    return Given(samples=samples, judged=judged, certified=certified, state=state)


def _left(samples: StoredDataset, used: Mapping[str, Array]) -> Array:
    """Samples of the independent units that neither calibrated nor selected, ascending.

    A unit did when all of its samples did, or one that no unit which certified holds too: silence in a recording is like any
    other, and tells nothing.
    """
    seen = _among(samples.digests, used, "calibration", "selection")
    telling = seen & ~_among(samples.digests, used, CERTIFICATION)
    units = units_of(np.asarray(samples.groups))
    left = [unit for unit in units if not telling[unit].any() and not seen[unit].all()]
    return np.sort(np.concatenate(left)) if left else np.empty(0, np.int64)


def _among(digests: Array, used: Mapping[str, Array], *splits: str) -> Array:
    """Which samples also lie in splits of the fit."""
    known = [used[name] for name in splits if name in used]
    return np.isin(digests, np.concatenate(known)) if known else np.zeros(len(digests), bool)
