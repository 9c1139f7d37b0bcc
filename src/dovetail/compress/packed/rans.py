"""Entropy coding of symbols by interleaved rANS, a whole row of lanes at a time in numpy.

Duda, "Asymmetric numeral systems: entropy coding combining speed of Huffman coding with compression rate of arithmetic coding",
2013, arXiv:1311.2540, in the range variant with 32-bit states that are refilled by 16-bit words; interleaving after Giesen,
"Interleaved entropy coders", 2014, arXiv:1402.3392. Symbol ``i`` belongs to lane ``i mod lanes``, so that one step decodes
``lanes`` neighbours.

A code is the final states, ``uint32[lanes]``, and then the words in the decoder's order, all little-endian.
"""

from __future__ import annotations

import numpy as np

from dovetail.core.protocols import Array

LOW = 1 << 16
"""States lie in ``[2^16, 2^32)``: one word is always enough to refill."""
STEPS = 2048
"""Symbols per lane: each lane costs two wasted bytes, each step some microseconds of interpreter."""
MAX_ALPHABET = 4096


def precision(alphabet: int) -> int:
    """Bits of the scale that frequencies are rounded to; the fewer, the better its tables fit the caches."""
    return 12 if alphabet <= 16 else 14 if alphabet <= 256 else 16


def lanes_of(n: int) -> int:
    """Lanes that ``n`` symbols are dealt to."""
    return max(1, -(-n // STEPS))


def frequencies(counts: Array) -> Array:
    """Counts scaled to a sum of ``2^precision`` with at least 1 for each symbol that occurs, ``int64[alphabet]``."""
    seen = counts > 0
    shared = (1 << precision(len(counts))) - int(seen.sum())
    scaled = np.where(seen, 1 + np.floor(counts * (shared / counts.sum())), 0).astype(np.int64)
    scaled[np.argmax(counts)] += (1 << precision(len(counts))) - int(scaled.sum())
    return scaled


def code_bytes(counts: Array, scaled: Array) -> float:
    """Bytes of a code, words and states, as the frequencies promise."""
    seen = counts > 0
    bits = float(np.dot(counts[seen], precision(len(counts)) - np.log2(scaled[seen])))
    return bits / 8 + 4 * lanes_of(int(counts.sum()))


def encode(symbols: Array, scaled: Array) -> bytes:
    """Codes symbols, ``[n ≥ 1]`` integers below the alphabet's size, with frequencies from :func:`frequencies`."""
    bits, lanes = precision(len(scaled)), lanes_of(len(symbols))
    steps = -(-len(symbols) // lanes)
    filler = np.full(steps * lanes - len(symbols), np.argmax(scaled), symbols.dtype)
    rows = np.concatenate([symbols, filler]).reshape(steps, lanes)
    frequency = scaled.astype(np.uint64)
    start = np.cumsum(frequency) - frequency
    state = np.full(lanes, LOW, np.uint64)
    words = []
    for row in rows[::-1]:
        f = frequency[row]
        full = (state >= f << np.uint64(32 - bits)).nonzero()[0]
        if len(full):
            words.append((state[full] & np.uint64(0xFFFF)).astype("<u2"))
            state[full] >>= np.uint64(16)
        quotient, rest = np.divmod(state, f)
        state = (quotient << np.uint64(bits)) + rest + start[row]
    return b"".join([state.astype("<u4").tobytes(), *(w.tobytes() for w in reversed(words))])


def decode(code: memoryview | bytes, n: int, scaled: Array) -> Array:
    """The inverse of :func:`encode`: ``uint8[n]``, or ``uint16[n]`` for alphabets over 256.

    Raises:
        ValueError: the code is too short or too long, or does not end as codes do, or the frequencies are none.
    """
    bits, lanes = precision(len(scaled)), lanes_of(n)
    if int(scaled.sum()) != 1 << bits or len(code) < 4 * lanes or len(code) % 2:
        raise ValueError("no such code")
    state = np.frombuffer(code, "<u4", lanes).astype(np.uint32)
    words = np.frombuffer(code, "<u2", offset=4 * lanes).astype(np.uint32)
    symbol, frequency, bias = _tables(scaled, bits)
    mask, shift, low, word = np.uint32((1 << bits) - 1), np.uint32(bits), np.uint32(LOW), np.uint32(16)
    rows = np.empty((-(-n // lanes), lanes), symbol.dtype)
    slot, taken = np.empty(lanes, np.uint32), np.empty(lanes, np.uint32)
    used = 0
    for row in rows:
        np.bitwise_and(state, mask, out=slot)
        symbol.take(slot, out=row, mode="clip")
        state >>= shift
        state *= frequency.take(slot, out=taken, mode="clip")
        state += bias.take(slot, out=taken, mode="clip")
        dry = (state < low).nonzero()[0]
        if len(dry):
            fresh = words[used : used + len(dry)]
            used += len(dry)
            if len(fresh) < len(dry):
                raise ValueError("the code is too short")
            state[dry] = (state[dry] << word) | fresh
    if used != len(words) or (state != low).any():
        raise ValueError("the code does not end as codes do")
    return rows.reshape(-1)[:n]


def _tables(scaled: Array, bits: int) -> tuple[Array, Array, Array]:
    """Symbol, its frequency, and the slot's place within it, for each of the ``2^bits`` slots."""
    symbol = np.repeat(np.arange(len(scaled)), scaled)
    start = np.cumsum(scaled) - scaled
    bias = np.arange(1 << bits) - start[symbol]
    return (
        symbol.astype(np.uint8 if len(scaled) <= 256 else np.uint16),
        scaled[symbol].astype(np.uint32),
        bias.astype(np.uint32),
    )
