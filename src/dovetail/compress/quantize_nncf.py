"""Static 8-bit quantisation by NNCF, for ONNX Runtime (QDQ graph) or OpenVINO (its own format).

NNCF places its quantisers for OpenVINO: on what matrix products, convolutions and their element-wise neighbours read, not on
what they write. ONNX Runtime fuses most of that to 8-bit kernels too; what stays float beside
:mod:`dovetail.compress.quantize_static` is the last product and additions that end a chain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dovetail.compress import calibration, settings
from dovetail.compress.quantize_static import MAX_SAMPLES, calibration_data
from dovetail.core.errors import ModelError
from dovetail.core.protocols import Dataset, Feeds, Model, Pass, PassContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Parameters of NNCF's post-training quantisation.

    Attributes:
        target: ``openvino`` writes ``model.xml`` and ``model.bin``, ``onnx`` a QDQ graph.
        preset: ``performance`` has symmetric activations, ``mixed`` asymmetric ones after anything but ReLU.
        fast_bias_correction: the quick variant; ``False`` corrects layer by layer, which takes much longer.
        model_type: ``transformer`` keeps attention masks and normalisations in float and applies SmoothQuant.
        smooth: SmoothQuant's α for matrix products, 0 to 1; -1 turns it off; ``None`` is NNCF's 0.95. Needs ``transformer``.
        samples: calibration samples used, 1 to 512.
        reduce_range: half the weight range, which cannot saturate on machines without VNNI.
        ignored: names of operators that stay float.
        ignored_types: operator types that stay float, in the names of the target.
    """

    target: Literal["openvino", "onnx"] = "openvino"
    preset: Literal["performance", "mixed"] = "mixed"
    fast_bias_correction: bool = True
    model_type: Literal["none", "transformer"] = "none"
    smooth: float | None = None
    samples: int = 128
    reduce_range: bool = False
    ignored: tuple[str, ...] = ()
    ignored_types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check = settings.require
        check(1 <= self.samples <= MAX_SAMPLES, f"{self.samples} lies outside 1 to {MAX_SAMPLES}", "quantize_nncf.samples")
        if self.smooth is not None:
            check(self.smooth == -1 or 0 <= self.smooth <= 1, f"{self.smooth} lies outside 0 to 1", "quantize_nncf.smooth")
            check(self.model_type == "transformer", "smoothing needs model_type transformer", "quantize_nncf.smooth")


class QuantizeNncf(Pass):
    """8-bit weights and activations by NNCF; parameters are those of :class:`Config`."""

    name: ClassVar[str] = "quantize_nncf"
    needs_calibration: ClassVar[bool] = True
    shrinks: ClassVar[bool] = True

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes ``model.xml`` and ``model.bin``, or ``model.onnx``.

        Raises:
            InputError: a parameter is wrong.
            DataError: there are no calibration samples, or one lacks an input.
            ModelError: NNCF or OpenVINO refuses the graph.
        """
        config = settings.read(Config, ctx.config, self.name)
        dataset = calibration_data(ctx, self.name)
        write = _openvino if config.target == "openvino" else _onnx
        return write(model, config, dataset, ctx)


def _openvino(model: Model, config: Config, dataset: Dataset, ctx: PassContext) -> Model:
    from dovetail.compress import openvino_file

    source = openvino_file.load(model)
    names = [i.any_name for i in source.inputs]
    return openvino_file.save(_quantised(source, names, config, dataset), ctx.workdir / "model.xml")


def _onnx(model: Model, config: Config, dataset: Dataset, ctx: PassContext) -> Model:
    from dovetail.compress import onnx_file

    source = onnx_file.load(model, where="quantize_nncf")
    onnx_file.check_names(source, config.ignored, "quantize_nncf.ignored")
    constants = set(onnx_file.constants(source))
    names = [i.name for i in source.graph.input if i.name not in constants]
    return onnx_file.save(_quantised(source, names, config, dataset), ctx.workdir / "model.onnx")


def _quantised(source: Any, inputs: list[str], config: Config, dataset: Dataset) -> Any:
    from dovetail.compress import quiet

    nncf = quiet.import_nncf()
    overflow = nncf.OverflowFix.ENABLE if config.reduce_range else nncf.OverflowFix.DISABLE
    advanced = nncf.AdvancedQuantizationParameters(overflow_fix=overflow)
    if config.smooth is not None:
        advanced.smooth_quant_alphas = nncf.AdvancedSmoothQuantParameters(matmul=config.smooth)
    indices = calibration.chosen(dataset, config.samples)
    try:
        with quiet.silenced():
            return nncf.quantize(
                source,
                nncf.Dataset(indices, _reader(dataset, inputs)),
                preset=nncf.QuantizationPreset(config.preset),
                subset_size=len(indices),
                fast_bias_correction=config.fast_bias_correction,
                model_type=nncf.ModelType.TRANSFORMER if config.model_type == "transformer" else None,
                ignored_scope=nncf.IgnoredScope(names=list(config.ignored), types=list(config.ignored_types)),
                advanced_parameters=advanced,
            )
    except Exception as exc:
        raise ModelError(f"NNCF refuses this graph: {exc}") from exc


def _reader(dataset: Dataset, inputs: list[str]) -> Callable[[int], Feeds]:
    def read(index: int) -> Feeds:
        feeds = dataset.sample(index).feeds
        return {name: feeds[name] for name in inputs}

    return read
