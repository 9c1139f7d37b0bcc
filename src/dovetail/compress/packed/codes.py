"""How a run of symbols is stored: plain, by rANS, or by a general compressor, whichever is smallest."""

from __future__ import annotations

import lzma
import zlib
from enum import IntEnum

import numpy as np

from dovetail.compress.packed import rans
from dovetail.core.protocols import Array

PROBE = 1 << 15
"""Symbols on which a general compressor has to show that it may win, before it is given all of many."""
_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0}]


class Code(IntEnum):
    """The tag in front of stored symbols."""

    BITS = 0
    RANS = 1
    ZLIB = 2
    LZMA = 3


def encode(symbols: Array, alphabet: int) -> tuple[Code, bytes, bytes]:
    """The smallest form of symbols below ``alphabet``: its tag, the table that decoding needs, and the code."""
    symbols = symbols.astype(np.uint8 if alphabet <= 256 else "<u2")
    best, found = -(-len(symbols) * _width(alphabet) // 8), None
    counts = np.bincount(symbols, minlength=alphabet)
    if alphabet <= rans.MAX_ALPHABET:
        scaled = rans.frequencies(counts)
        if rans.code_bytes(counts, scaled) + 2 * alphabet < best:
            found = Code.RANS, _table(scaled), rans.encode(symbols, scaled)
            best = len(found[1]) + len(found[2])
    for kind in (Code.ZLIB, Code.LZMA):
        if _promises(kind, symbols, best) and len(code := _general(kind, symbols)) < best:
            found, best = (kind, b"", code), len(code)
    return found or (Code.BITS, b"", _packed(symbols, alphabet))


def decode(kind: int, table: bytes, code: memoryview, n: int, alphabet: int) -> Array:
    """The inverse: unsigned integers ``[n]``, each below ``alphabet``.

    Raises:
        ValueError: the code is none, or not of ``n`` symbols.
    """
    if kind == Code.RANS:
        symbols = rans.decode(code, n, _frequencies(table, alphabet))
    elif kind == Code.BITS:
        symbols = _unpacked(code, n, alphabet)
    elif kind in (Code.ZLIB, Code.LZMA):
        size = n * (1 if alphabet <= 256 else 2)
        symbols = np.frombuffer(inflate(kind, code, size), np.uint8 if alphabet <= 256 else "<u2")
    else:
        raise ValueError(f"code {kind} is unknown")
    if n and int(symbols.max()) >= alphabet:
        raise ValueError("a symbol lies beyond the codebook")
    return symbols


def deflate(data: bytes) -> tuple[Code, bytes]:
    """Bytes by the better of the general compressors."""
    return min(((kind, _compressed(kind, data)) for kind in (Code.ZLIB, Code.LZMA)), key=lambda found: len(found[1]))


def inflate(kind: int, code: bytes | memoryview, size: int) -> bytes:
    """The inverse of :func:`deflate`; never makes more than ``size`` bytes and one.

    Raises:
        ValueError: damaged, or not of that size.
    """
    try:
        if kind == Code.ZLIB:
            zipped = zlib.decompressobj()
            data, ended = zipped.decompress(code, size + 1), zipped.eof and not zipped.unused_data
        elif kind == Code.LZMA:
            squeezed = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_LZMA)
            data = squeezed.decompress(code, size + 1)
            ended = squeezed.eof and not squeezed.unused_data
        else:
            raise ValueError(f"code {kind} is unknown")
    except (zlib.error, lzma.LZMAError, EOFError) as exc:
        raise ValueError(str(exc)) from exc
    if len(data) != size or not ended:
        raise ValueError("the code is not of the size that is stated")
    return data


def _promises(kind: Code, symbols: Array, best: int) -> bool:
    if len(symbols) <= PROBE:
        return True
    share = PROBE / len(symbols)
    return len(_general(kind, symbols[:PROBE])) < best * share


def _general(kind: Code, symbols: Array) -> bytes:
    return _compressed(kind, symbols.tobytes())


def _compressed(kind: Code, data: bytes) -> bytes:
    return zlib.compress(data, 9) if kind == Code.ZLIB else lzma.compress(data, lzma.FORMAT_RAW, filters=_LZMA)


def _width(alphabet: int) -> int:
    return max(0, (alphabet - 1).bit_length())


def _packed(symbols: Array, alphabet: int) -> bytes:
    """``ceil(log2 alphabet)`` bits each, the first symbol in the lowest bits."""
    width = _width(alphabet)
    if width == 8:
        return symbols.tobytes()
    bits = (symbols[:, None] >> np.arange(width, dtype=symbols.dtype)) & 1
    return np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


def _unpacked(code: memoryview, n: int, alphabet: int) -> Array:
    width = _width(alphabet)
    if len(code) != -(-n * width // 8):
        raise ValueError("the code is not of the size that is stated")
    if width == 8:
        return np.frombuffer(code, np.uint8)
    bits = np.unpackbits(np.frombuffer(code, np.uint8), count=n * width, bitorder="little").reshape(n, width)
    symbols = np.zeros(n, np.uint16)
    for place in range(width):
        symbols |= bits[:, place].astype(np.uint16) << np.uint16(place)
    return symbols.astype(np.uint8) if alphabet <= 256 else symbols


def _table(scaled: Array) -> bytes:
    """Frequencies as 16-bit numbers. One symbol alone has ``2^bits``, which still fits."""
    return scaled.astype("<u2").tobytes()


def _frequencies(table: bytes, alphabet: int) -> Array:
    if len(table) != 2 * alphabet:
        raise ValueError("the table is not of the alphabet's size")
    return np.frombuffer(table, "<u2").astype(np.int64)
