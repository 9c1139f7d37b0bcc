"""Turns a torch network into ONNX, in float, and checks the result against torch.

Needs the ``torch`` extra. ``file.py:factory`` runs the user's own code, as naming it asks for; a ``.pt2`` file may come from
anywhere and is only taken in a form that torch loads without running code from it.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.core.errors import InputError, MissingDependency, ModelError
from dovetail.workloads.load import load_onnx, signature
from dovetail.workloads.pt2_screen import screen

OPSET = 18
"""Lowest opset of torch's exporter."""
TOLERANCE = 1e-4
"""Greatest difference to torch, relative to the largest output value."""

_INLINE_LIMIT_BYTES = 1_800_000_000
_HINT = "pip install 'dovetail[torch]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchImport:
    """What was exported.

    Attributes:
        path: the ONNX file.
        relative_error: greatest difference to torch on the example, relative to the largest output value.
        dynamic_batch: whether the leading dimension of the inputs was left open.
        notes: what could not be done as wished.
    """

    path: Path
    relative_error: float
    dynamic_batch: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Inputs of one call of a torch network, as it is called."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def import_torch(
    source: str | Path | Any,
    out: Path,
    *,
    feeds: Mapping[str, NDArray[Any]] | Sequence[NDArray[Any]] | None = None,
    shapes: Sequence[Sequence[int]] | None = None,
    seed: int = 0,
) -> TorchImport:
    """Exports a torch network to ONNX and compares both on the example.

    Args:
        source: ``file.py:factory``, a ``.pt2`` exported program, or an ``nn.Module``. The factory takes no arguments and
            returns a module, or a pair of a module and its example inputs; the file may define ``example_inputs()`` instead.
        out: the ONNX file to write.
        feeds: example inputs, in order, or by the name of the module's arguments.
        shapes: shapes of float example inputs, drawn from a normal distribution, where no values are given.
        seed: of the weights that a factory draws, so that it makes the same network every time.

    Raises:
        MissingDependency: torch or onnxscript is absent.
        InputError: there is no example input, or the file or factory is missing.
        ModelError: the network cannot be exported, or ONNX Runtime computes something else than torch.
    """
    torch = _torch()
    given = _given(torch, feeds, shapes)
    if isinstance(source, torch.nn.Module):
        where, network, example = type(source).__name__, source, given
    elif str(source).endswith(".pt2"):
        where = str(source)
        network, example = _load_pt2(torch, Path(source), given)
    else:
        where = str(source)
        network, example = _from_factory(torch, where, given, seed)
    if example is None:
        raise InputError(
            "the network's inputs are not known",
            where=where,
            hint="define example_inputs() in the file, return (module, example_inputs) from the factory, or give shapes",
        )
    with warnings.catch_warnings(), _inference(torch, network) as module:
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        expected = _run_torch(torch, module, example, where)
        notes = _export(torch, module, example, out, where)
    error = _compare(torch, out, example, expected, where)
    return TorchImport(path=out, relative_error=error, dynamic_batch=_has_open_batch(out), notes=notes)


def _torch() -> Any:
    missing = [name for name in ("torch", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependency(f"{missing[0]} is not installed; importing torch networks needs it", hint=_HINT)
    import torch

    return torch


def _given(
    torch: Any, feeds: Mapping[str, NDArray[Any]] | Sequence[NDArray[Any]] | None, shapes: Sequence[Sequence[int]] | None
) -> Example | None:
    if isinstance(feeds, Mapping):
        return Example(kwargs={name: torch.from_numpy(np.array(array)) for name, array in feeds.items()})
    if feeds is not None:
        return Example(args=tuple(torch.from_numpy(np.array(array)) for array in feeds))
    if shapes is None:
        return None
    generator = torch.Generator().manual_seed(0)
    return Example(args=tuple(torch.randn(*shape, generator=generator) for shape in shapes))


def _from_factory(torch: Any, spec: str, given: Example | None, seed: int) -> tuple[Any, Example | None]:
    """Runs ``factory`` of ``file.py:factory``."""
    file, _, name = spec.rpartition(":")
    if not file or not name.isidentifier():
        raise InputError(f"{spec!r} is not file.py:factory", hint="name the file and the function that returns the module")
    loaded = _load_file(Path(file))
    factory = getattr(loaded, name, None)
    if not callable(factory):
        raise InputError(f"it defines no function {name!r}", where=file)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = factory()
        inputs = loaded.example_inputs() if hasattr(loaded, "example_inputs") else None
    except Exception as exc:  # the user's own code
        raise ModelError(f"{name}() raised {type(exc).__name__}: {exc}", where=file) from exc
    if isinstance(made, tuple) and len(made) == 2:
        made, inputs = made
    if not isinstance(made, torch.nn.Module):
        raise ModelError(f"{name}() returned a {type(made).__name__}, not an nn.Module", where=file)
    return made, given or _as_example(inputs)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError("there is no such file", where=str(path))
    name = f"dovetail_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError("it is not a Python file", where=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and exporters look their module up by name
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as exc:  # the user's own code
        raise ModelError(f"running it raised {type(exc).__name__}: {exc}", where=str(path)) from exc
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _as_example(inputs: Any) -> Example | None:
    if inputs is None:
        return None
    if isinstance(inputs, Mapping):
        return Example(kwargs=dict(inputs))
    return Example(args=tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,))


def _load_pt2(torch: Any, path: Path, given: Example | None) -> tuple[Any, Example | None]:
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ModelError(f"it cannot be read: {exc.strerror}", where=str(path)) from exc
    screen(data, str(path))
    try:
        program = torch.export.load(io.BytesIO(data))
    except Exception as exc:  # torch raises anything for a file it cannot take
        raise ModelError(
            f"torch {torch.__version__} cannot load it: {exc}", where=str(path), hint="save it with this version of torch"
        ) from exc
    inputs = program.example_inputs
    return program, given or (None if inputs is None else Example(args=tuple(inputs[0]), kwargs=dict(inputs[1])))


@contextmanager
def _inference(torch: Any, network: Any) -> Iterator[Any]:
    """The network in evaluation mode and single precision; a live module is as it was afterwards."""
    if not isinstance(network, torch.nn.Module):
        yield network
        return
    half = any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in network.parameters())
    module = copy.deepcopy(network).float() if half else network
    modes = {part: part.training for part in module.modules()}
    try:
        yield module.eval()
    finally:
        for part, training in modes.items():
            part.training = training


def _run_torch(torch: Any, network: Any, example: Example, where: str) -> list[NDArray[Any]]:
    module = network if isinstance(network, torch.nn.Module) else network.module()
    try:
        with torch.no_grad():
            result = module(*copy.deepcopy(example.args), **copy.deepcopy(example.kwargs))
    except Exception as exc:  # the user's own code
        raise ModelError(f"the network does not run on its example inputs: {exc}", where=where) from exc
    return _arrays(torch, result)


def _arrays(torch: Any, tree: Any) -> list[NDArray[Any]]:
    """All tensors of nested outputs, in the exporter's order."""
    return [np.asarray(leaf.detach().cpu()) for leaf in torch.utils._pytree.tree_leaves(tree) if torch.is_tensor(leaf)]


def _export(torch: Any, network: Any, example: Example, out: Path, where: str) -> tuple[str, ...]:
    """Exports with an open leading dimension, or a fixed one where the network does not allow it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(network, torch.nn.Module):
        _run_exporter(torch, network, Example(), out, where, None)
        return ()
    doubled, dims = _open_batch(torch, example)
    if dims is not None:
        try:
            _run_exporter(torch, network, doubled, out, where, dims)
            return ()
        except ModelError as exc:
            reason = exc.what
    else:
        reason = "the inputs do not share a leading dimension"
    _run_exporter(torch, network, example, out, where, None)
    return (f"exported with a fixed batch: {reason}",)


def _open_batch(torch: Any, example: Example) -> tuple[Example, Any]:
    """The example with its batch doubled (the exporter would take a batch of 1 for a constant), and its open dimensions."""
    tensors = [*example.args, *example.kwargs.values()]
    if not all(torch.is_tensor(tensor) and tensor.ndim for tensor in tensors) or len({len(t) for t in tensors}) != 1:
        return example, None
    doubled = Example(
        args=tuple(torch.cat([tensor, tensor]) for tensor in example.args),
        kwargs={name: torch.cat([tensor, tensor]) for name, tensor in example.kwargs.items()},
    )
    dims = {0: torch.export.Dim("batch")}
    return doubled, dict.fromkeys(example.kwargs, dims) if example.kwargs else tuple(dims for _ in example.args)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Only errors of one logger."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _run_exporter(torch: Any, network: Any, example: Example, out: Path, where: str, dynamic_shapes: Any) -> None:
    weights = network.state_dict() if isinstance(network, torch.nn.Module) else network.state_dict
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in weights.values() if torch.is_tensor(tensor))
    try:
        with torch.no_grad(), _quiet("torch.onnx._internal.exporter"):  # it tells of packages that are not needed
            torch.onnx.export(
                network,
                example.args,
                out,
                kwargs=example.kwargs or None,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=dynamic_shapes,
                external_data=n_bytes > _INLINE_LIMIT_BYTES,
                verbose=False,
            )
    except Exception as exc:  # the exporter raises anything, by operator
        lines = [line for line in str(exc).strip().splitlines() if line.strip()] or [type(exc).__name__]
        raise ModelError(
            f"torch cannot export it to ONNX: {lines[0]}",
            where=where,
            hint="see the operators that torch.onnx.export(dynamo=True) supports",
        ) from exc


def _compare(torch: Any, out: Path, example: Example, expected: list[NDArray[Any]], where: str) -> float:
    """Greatest relative difference between ONNX Runtime on the exported file and torch.

    Raises:
        ModelError: it is beyond :data:`TOLERANCE`, or outputs differ in number or shape.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(out, options, providers=["CPUExecutionProvider"])
    arrays = _arrays(torch, (example.args, example.kwargs))
    names = [value.name for value in session.get_inputs()]
    found = session.run(None, dict(zip(names, arrays, strict=True)))
    if [array.shape for array in found] != [array.shape for array in expected]:
        raise ModelError("the exported network has other outputs than torch", where=where)
    error = max((_relative_error(a, b) for a, b in zip(found, expected, strict=True)), default=0.0)
    if not error <= TOLERANCE:
        raise ModelError(
            f"the exported network differs from torch by {error:.2g}, relative to its largest output; {TOLERANCE:g} is allowed",
            where=where,
            hint="look for random numbers or training-mode layers in the network",
        )
    return error


def _relative_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    if not expected.size:
        return 0.0
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(found.astype(float) - expected.astype(float)).max()) / scale


def _has_open_batch(out: Path) -> bool:
    inputs, _ = signature(load_onnx(out, weights=False))
    return any(bool(spec.shape) and not isinstance(spec.shape[0], int) for spec in inputs)
