"""Refuses ``.pt2`` files that could run code when torch loads them.

``torch.export.load`` unpickles weights, constants and example inputs that ask for it, evaluates symbolic sizes as Python
expressions, and resolves operator names by attribute access on ``torch`` (read in torch 2.13:
``torch/export/pt2_archive/_package.py``, ``torch/_export/serde/serialize.py``). Files that ``torch.export.save`` writes for
plain networks need none of that, so anything else is refused before torch sees it.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from dovetail.core.errors import ModelError

_HINT = "save it again with torch.export.save from a current torch, or give the code as file.py:factory"
_PLAIN_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
_OPERATOR = re.compile(r"torch\.ops(\.(?!_)[A-Za-z]\w*){2,3}|torch\.ops\.higher_order\.\w+|torch\.sym_\w+|math\.\w+")
_PYTHON_OPERATORS = frozenset(
    f"_operator.{name}"
    for name in "add sub mul floordiv truediv mod neg pos abs eq ne lt le gt ge getitem and_ or_ not_ pow".split()
)
# sympy's srepr form of a symbol; its assumptions are truth values.
_SYMBOL = re.compile(r"Symbol\('(s|u|zf|zuf)\d+'(, ?[a-z_]+=(True|False))*\)|\b(s|u|zf|zuf)\d+\b")
_FUNCTIONS = frozenset(
    "Add Mul Pow Integer Max Min Mod PythonMod FloorDiv CeilDiv CleanDiv ModularIndexing IntTrueDiv FloatTrueDiv TruncToInt "
    "FloorToInt CeilToInt ToFloat Abs Eq Ne Gt Ge Lt Le And Or Not PowByNatural Identity True False oo int_oo".split()
)


def screen(data: bytes, where: str) -> None:
    """Checks a whole ``.pt2`` file.

    Args:
        data: its bytes, the same that torch is then given.
        where: its path, for the message.

    Raises:
        ModelError: it is not an exported program, or loading it could run code.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = {name.partition("/")[2]: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
            documents = [json.loads(body) for name, body in files.items() if name.endswith(".json")]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, RecursionError, OSError) as exc:
        raise ModelError("it is not an exported torch program", where=where, hint=_HINT) from exc
    if "archive_format" not in files or not any(name.startswith("models/") for name in files):
        raise ModelError("it is not an exported torch program, or one of an old format", where=where, hint=_HINT)
    for name, body in files.items():
        if name.endswith(".pt") or body[:4] == b"PK\x03\x04":
            _check_tensors(name, body, where)
    for document in documents:
        for problem in _problems(document):
            raise ModelError(f"loading it could run code: {problem}", where=where, hint=_HINT)


def _check_tensors(name: str, body: bytes, where: str) -> None:
    import torch

    if not name.startswith("data/sample_inputs/"):
        raise ModelError(f"loading it could run code: {name} is pickled", where=where, hint=_HINT)
    try:
        torch.load(io.BytesIO(body), weights_only=True, map_location="cpu")
    except Exception as exc:  # torch raises UnpicklingError, RuntimeError and others for what it refuses
        raise ModelError(f"loading it could run code: {name} holds more than tensors", where=where, hint=_HINT) from exc


def _problems(value: Any) -> Iterator[str]:
    """Walks a JSON document for what torch would unpickle, evaluate or look up."""
    if isinstance(value, list):
        for item in value:
            yield from _problems(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            problem = _problem(key, item)
            if problem:
                yield problem
            yield from _problems(item)


def _problem(key: str, item: Any) -> str | None:
    if key == "use_pickle" and item is not False:
        return "it holds pickled weights"
    if key == "path_name" and not (isinstance(item, str) and _PLAIN_PAYLOAD.fullmatch(item)):
        return f"it holds an object that is no tensor, {str(item)[:40]!r}"
    if key == "expr_str" and not (isinstance(item, str) and _is_plain_expression(item)):
        return f"a size is an unusual expression, {str(item)[:40]!r}"
    if key == "target" and isinstance(item, str) and item not in _PYTHON_OPERATORS and not _OPERATOR.fullmatch(item):
        return f"it calls {item[:60]!r}"
    return None


def _is_plain_expression(text: str) -> bool:
    rest = _SYMBOL.sub("0", text)
    if not re.fullmatch(r"[\w\s+\-*/%(),<>=]*", rest):
        return False
    return all(name in _FUNCTIONS for name in re.findall(r"[A-Za-z_]\w*", rest))
