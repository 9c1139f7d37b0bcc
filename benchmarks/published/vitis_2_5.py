"""Vitis AI 2.5 model zoo: end-to-end frames a second of about 80 networks on Xilinx boards and Alveo cards.

Left out: rows in milliseconds (the rates beside them say the same), networks whose operations the name does not state.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.predict.edge.dpu import configuration
from published import dpu_rows
from published.table import Row, read_csv

FILE = "edge_fpga_vitis_ai_2_5.csv"
_SCALE = {"G": 1e9, "M": 1e6}


class Vitis25(dpu_rows.DpuTable):
    """See :class:`published.table.Table`."""

    name = "vitis_2_5"
    source = "Xilinx/Vitis-AI model_zoo/README.md (Vitis AI 2.5)"

    def read(self, folder: Path) -> Sequence[Row]:
        """Rows of throughput whose operations and configuration are stated."""
        return [found for line in read_csv(folder / FILE) if (found := _row(line))]

    def parts(self, rows: Sequence[Row]) -> Mapping[str, NDArray[np.bool_]]:
        """One thread and several."""
        multi = np.array([row["run"].multi for row in rows])
        return {"one thread": ~multi, "several threads": multi}

    def devices(self, rows: Sequence[Row]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
        """Configurations, within one network and way to run."""
        return [row["run"].dpu.name for row in rows], [(row["name"], row["run"].multi) for row in rows]


def _row(line: Mapping[str, str]) -> dict[str, Any] | None:
    name = line["zoo_name"].replace("\\", "")
    board = re.sub(r" \(.*| DWC$| SOM$|^Kria ", "", line["board"])
    dpu = configuration(board, line["dpu_config"])
    stated = re.search(r"_(\d[\d.]*)([GM])(?:_2\.5)?$", name)
    if dpu is None or stated is None or "latency" in line["metric"]:
        return None
    size = re.search(r"_(\d{2,4})_(\d{2,4})(?=_|$)", name)
    pruned = re.search(r"_(0\.\d+)_[\d.]+[GM]", name)
    found = dpu_rows.network(
        name,
        float(stated[1]) * _SCALE[stated[2]],
        float(size[1]) * float(size[2]) if size else None,
        float(pruned[1]) if pruned else 0.0,
    )
    return dpu_rows.row(name, dpu, "Multi" in line["metric"], found, float(line["value"]))


TABLE = Vitis25()
