"""Static 8-bit quantisation of weights and activations as an ONNX QDQ graph.

Fewer than 8 bits are not offered: x86 has no arithmetic for them, so they could only save storage
(:mod:`dovetail.compress.weight_only`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from dovetail.compress import settings
from dovetail.core.errors import DataError
from dovetail.core.protocols import Dataset, Model, Pass, PassContext

if TYPE_CHECKING:
    from dovetail.compress.qdq import Grid

MAX_SAMPLES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Parameters of static quantisation, in recipes by the names below.

    Attributes:
        activation: ``uint8`` lets ONNX Runtime fuse whole chains on x86 and drop every ReLU; with ``int8`` it leaves many
            convolutions in float; ``int16`` has no CPU kernels and serves accuracy studies.
        weight: ``int8``; ``uint8`` gives the slower kernels on x86.
        per_channel: one weight scale per output channel; costs no time in ONNX Runtime's convolutions.
        symmetric_activation: zero point in the middle of the grid; keeps every ReLU as an operator of its own.
        method: how ranges are chosen; see :func:`dovetail.compress.ranges.tensor_range`.
        percentile: share of values kept on either side, in percent, for ``percentile``.
        samples: calibration samples used, 1 to 512.
        reduce_range: 7-bit weights, which cannot saturate the 16-bit sums of machines without VNNI.
        scheme: ``chain`` keeps activations in 8 bits from operator to operator; ``products`` quantises only matrix products
            with constant weights and returns float from them; ``auto`` takes ``products`` where the graph holds attention.
        exclude: names of operators that stay float.
        exclude_types: operator types that stay float.
        include_types: the only operator types to quantise; empty for those of the scheme.
        smooth: SmoothQuant's α, 0 to 1; ``None`` for no smoothing.
        bias_correction: corrects the mean shift of each output channel.
    """

    activation: Literal["uint8", "int8", "int16"] = "uint8"
    weight: Literal["int8", "uint8"] = "int8"
    per_channel: bool = True
    symmetric_activation: bool = False
    method: Literal["minmax", "percentile", "mse", "entropy"] = "mse"
    percentile: float = 99.99
    samples: int = 128
    reduce_range: bool = False
    scheme: Literal["auto", "chain", "products"] = "auto"
    exclude: tuple[str, ...] = ()
    exclude_types: tuple[str, ...] = ()
    include_types: tuple[str, ...] = ()
    smooth: float | None = None
    bias_correction: bool = False

    def __post_init__(self) -> None:
        check = settings.require
        check(50 < self.percentile <= 100, f"{self.percentile} lies outside 50 to 100", "quantize_static.percentile")
        check(1 <= self.samples <= MAX_SAMPLES, f"{self.samples} lies outside 1 to {MAX_SAMPLES}", "quantize_static.samples")
        check(self.smooth is None or 0 <= self.smooth <= 1, f"{self.smooth} lies outside 0 to 1", "quantize_static.smooth")

    def grid(self) -> Grid:
        """The integer types."""
        from dovetail.compress.qdq import Grid

        return Grid(
            activation=self.activation,
            weight=self.weight,
            per_channel=self.per_channel,
            symmetric_activation=self.symmetric_activation,
            reduce_range=self.reduce_range,
        )


class QuantizeStatic(Pass):
    """8-bit weights and activations with ranges from calibration samples; parameters are those of :class:`Config`."""

    name: ClassVar[str] = "quantize_static"
    needs_calibration: ClassVar[bool] = True
    shrinks: ClassVar[bool] = True

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes ``model.onnx``.

        Raises:
            InputError: a parameter is wrong.
            DataError: there are no calibration samples, or they do not fit the model.
            ModelError: the graph cannot be quantised.
        """
        from dovetail.compress import onnx_file
        from dovetail.compress.calibrated import calibrate

        config = settings.read(Config, ctx.config, self.name)
        quantised = calibrate(model, config, calibration_data(ctx, self.name), ctx.progress).quantised()
        return onnx_file.save(quantised, ctx.workdir / "model.onnx")


def calibration_data(ctx: PassContext, pass_name: str) -> Dataset:
    """The calibration samples.

    Raises:
        DataError: there are none.
    """
    if ctx.calibration is None:
        raise DataError("needs calibration samples", where=pass_name, hint="give data with --data or --calibrate")
    return ctx.calibration
