"""Tells what a file that is not ONNX seems to be. Looks at its first bytes and at archive listings; opens nothing."""

from __future__ import annotations

import zipfile
from pathlib import Path

_EXPORT_TORCH = (
    "export it: torch.onnx.export(module, example_inputs, 'model.onnx', dynamo=True), or give the code as file.py:factory"
)
_STATE_DICT = f"it may hold weights without their network, and reading it could run code; {_EXPORT_TORCH}"
_TF2ONNX = "convert it with tf2onnx (python -m tf2onnx.convert) and give the .onnx file"

# (offset, magic bytes, what it is, what to do)
_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (4, b"TFL3", "a LiteRT (TensorFlow Lite) model", "give it the ending .tflite"),
    (4, b"ORTM", "an ONNX Runtime .ort model", "give the .onnx file that it was made from"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, probably Keras weights", _TF2ONNX),
    (0, b"DTVW", "a packed model", "unpack it first: dovetail unpack FILE --out model.onnx"),
    (0, b"GGUF", "a GGUF language model", "this tool takes ONNX; export the original network"),
    (0, b"\x93NUMPY", "a NumPy array", "arrays are data: give them with --data"),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (0, b"7z\xbc\xaf", "a 7z archive", "unpack it first"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch the file: git lfs pull"),
    (0, b"\x7fELF", "a compiled program", "give an .onnx file"),
    (0, b"%PDF", "a PDF document", "give an .onnx file"),
    (0, b"\x89PNG", "an image", "give an .onnx file"),
)


def guess(path: Path, head: bytes) -> tuple[str, str] | None:
    """What a file seems to be, and what to do with it; ``None`` when nothing is recognised.

    Args:
        path: the file; only a zip archive is opened, and only its list of names read.
        head: its first bytes, 64 or more where it has them.
    """
    for offset, magic, what, hint in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return what, hint
    if head[:4] == b"PK\x03\x04":
        return _guess_zip(path)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return "a Python pickle (an old .pt or .pth file, for one)", _STATE_DICT
    if head[8:10] == b'{"':
        return "a safetensors file: weights without their network", _EXPORT_TORCH
    return _guess_text(head)


def _guess_zip(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "a damaged zip archive", "copy it again"
    leaves = {name.rpartition("/")[2] for name in names}
    if "archive_format" in leaves or any(name.endswith("models/model.json") for name in names):
        return "an exported torch program", "name it with the ending .pt2"
    if "constants.pkl" in leaves:
        return "a TorchScript archive", _EXPORT_TORCH
    if "data.pkl" in leaves:
        return "a torch checkpoint (.pt or .pth)", _STATE_DICT
    if "model.weights.h5" in leaves:
        return "a Keras model", _TF2ONNX
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy archive", "arrays are data: give them with --data"
    if any(name.endswith(".onnx") for name in names):
        return "a zip archive with an ONNX file in it", "unpack it first"
    return "a zip archive", "unpack it first"


def _guess_text(head: bytes) -> tuple[str, str] | None:
    text = head.lstrip()[:48].lower()
    if text.startswith((b"<!doctype", b"<html")):
        return "a web page; the download has probably failed", "download the file again"
    if text.startswith(b"<?xml"):
        return "an XML file, perhaps OpenVINO IR", "give the .onnx file that it was made from"
    if text.startswith((b"{", b"[")):
        return "a JSON file", "give an .onnx file"
    if head and all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head):
        return "a text file", "give an .onnx file"
    return None
