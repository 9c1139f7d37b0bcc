"""Writes trees of files as the kernel shows them."""

from pathlib import Path


def tree(root: Path, files: dict[str, str]) -> Path:
    """Writes files by their paths; returns the root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


RAPL = {
    "sys/class/powercap/intel-rapl/enabled": "1\n",
    "sys/class/powercap/intel-rapl:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl:0/energy_uj": "262143000000\n",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
    "sys/class/powercap/intel-rapl:0:0/name": "core\n",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "1000000\n",
    "sys/class/powercap/intel-rapl:0:0/max_energy_range_uj": "262143328850\n",
    "sys/class/powercap/intel-rapl:0:1/name": "dram\n",
    "sys/class/powercap/intel-rapl:0:1/energy_uj": "5000000\n",
    "sys/class/powercap/intel-rapl:0:1/max_energy_range_uj": "65712999613\n",
    "sys/class/powercap/intel-rapl:1/name": "psys\n",
    "sys/class/powercap/intel-rapl:1/energy_uj": "7000000\n",
    "sys/class/powercap/intel-rapl:1/max_energy_range_uj": "262143328850\n",
}
"""A laptop's zones: one package with cores and memory, and the platform."""

JETSON = {
    "sys/class/hwmon/hwmon3/name": "ina3221\n",
    "sys/class/hwmon/hwmon3/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon3/in1_input": "5000\n",
    "sys/class/hwmon/hwmon3/curr1_input": "1800\n",
    "sys/class/hwmon/hwmon3/in2_label": "VDD_CPU_GPU_CV\n",
    "sys/class/hwmon/hwmon3/in2_input": "5000\n",
    "sys/class/hwmon/hwmon3/curr2_input": "400\n",
    "sys/class/hwmon/hwmon3/in3_label": "VDD_SOC\n",
    "sys/class/hwmon/hwmon3/in3_input": "4992\n",
    "sys/class/hwmon/hwmon3/curr3_input": "600\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48312\n",
}
"""A Jetson Orin module: three rails of an INA3221, the first of which feeds the others."""
