r"""Packed models: one ``.dtvw`` file that gives back an ONNX file byte for byte.

The file holds the ONNX file's bytes with the numbers of its larger tensors (from 1 kB) cut out, and these numbers coded: a
codebook with indices where few different values occur, a mask and what is not zero where many are zero, else byte planes; each
as the smallest of plain bits, rANS, zlib and lzma. Nothing in it is executed or unpickled.

Layout, all numbers little-endian:

====== ===== =============================================================================================
offset bytes what
====== ===== =============================================================================================
0      4     ``DTVW``
4      2     version, 1
6      1     code of the head: 2 zlib, 3 lzma (raw LZMA2)
7      1     0
8      8     size of this file
16     8     size of the ONNX file
24     32    SHA-256 of the ONNX file
56     8     size of the head
64     8     size of the head as stored
72     4     CRC-32 of bytes 0 to 71 and of all from 76 on
76           the head as stored, then the codes of all runs one after the other
====== ===== =============================================================================================

The head, once inflated: the number of coded tensors (4 bytes); a record for each; then for each its codebook and its runs'
tables; then the ONNX file's other bytes. A record:

===== ==================================================================================
bytes what
===== ==================================================================================
8     where its numbers begin in the ONNX file
8     how many bytes they take there
1     bytes per number
1     form: 0 byte planes, 1 codebook, 2 mask and the rest in byte planes
2     number of runs: as many as bytes per number; 1; one more than bytes per number
4     bytes of the codebook: different numbers in ascending order of their bits
13    for each run: code (1 byte: 0 bits, 1 rANS, 2 zlib, 3 lzma), bytes of its table (4), bytes of its code (8)
===== ==================================================================================

A run's symbols are indices into the codebook, bytes, or bits of the mask. Plain bits take ``ceil(log2 alphabet)`` each, the
first symbol lowest. rANS (:mod:`.rans`) has its frequencies, 2 bytes per symbol of the alphabet, as its table; they sum to 2^12
for up to 16 symbols, 2^14 up to 256, 2^16 beyond. The general compressors hold one byte per symbol, two where the alphabet
exceeds 256.
"""

from dovetail.compress.packed.file import Packed, is_packed, pack, pack_bytes, unpack, unpack_bytes

__all__ = ["Packed", "is_packed", "pack", "pack_bytes", "unpack", "unpack_bytes"]
