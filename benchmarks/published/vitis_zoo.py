"""Vitis AI 3.5 model zoo: end-to-end frames a second of about 50 networks on VEK280 and Alveo V70.

A few rows state other operations than the network has (MobileNetV2 with 62 G); they stay, fitted robustly and judged.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.predict.edge.dpu import configuration
from published import dpu_rows
from published.table import Row, read_csv

FILE = "edge_vitis_ai_zoo.csv"


class VitisZoo(dpu_rows.DpuTable):
    """See :class:`published.table.Table`."""

    name = "vitis_zoo"
    source = "Xilinx/Vitis-AI docsrc ModelZoo_Github.csv (Vitis AI 3.5)"

    def read(self, folder: Path) -> Sequence[Row]:
        """All rows with a rate on a configuration that can be read."""
        return [found for line in read_csv(folder / FILE) if (found := _row(line))]

    def parts(self, rows: Sequence[Row]) -> Mapping[str, NDArray[np.bool_]]:
        """By board and threads."""
        ways = [f"{row['board']}, {'several threads' if row['run'].multi else 'one thread'}" for row in rows]
        return {way: np.array([other == way for other in ways]) for way in sorted(set(ways))}

    def devices(self, rows: Sequence[Row]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
        """Boards, within one network and way to run."""
        return [row["board"] for row in rows], [(row["name"], row["run"].multi) for row in rows]


def _row(line: Mapping[str, str]) -> dict[str, Any] | None:
    dpu = configuration(line["device"], line["dpu_config"])
    if dpu is None or not line["fps_e2e"] or not line["ops_g"]:
        return None
    height, width, *_ = (float(side) for side in line["input"].split("*"))
    pruned = float(line["pruned"].rstrip("%")) / 100 if line["pruned"] else 0.0
    found = dpu_rows.network(line["model"], float(line["ops_g"]) * 1e9, height * width, pruned)
    return dpu_rows.row(line["model"], dpu, line["threads"] == "multi", found, float(line["fps_e2e"]))


TABLE = VitisZoo()
