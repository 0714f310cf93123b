"""Trees of boards for tests: the captured ones, and others composed after their device trees."""

from __future__ import annotations

from pathlib import Path

from ssmprof.devices.sysfs import RecordedFiles, Sysfs

ROOT = Path(__file__).parents[1] / "jetson"
NANO_FILE = ROOT / "sysfs" / "sysfs_orin_nano_super_r36.5.tsv"
THOR_FILE = ROOT / "sysfs" / "sysfs_thor_r38.4.tsv"
MEMINFO = (
    "MemTotal:        7802640 kB\nMemFree:          201032 kB\nMemAvailable:    6000000 kB\n"
    "SwapTotal:       3901320 kB\nSwapFree:        3801320 kB\n"
)
RELEASE = "# R36 (release), REVISION: {}, GCID: 42132812, BOARD: generic, EABI: aarch64"


def rows(file: Path) -> dict[str, str]:
    """Rows of a captured tree, path -> cell."""
    lines = file.read_text().splitlines()
    cells = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return {cell[0]: cell[1] for cell in cells}


def sample(name: str) -> str:
    """A recorded file or output without its own comments (`# source` lines and the like)."""
    return (ROOT / "samples" / name).read_text()


def conf() -> str:
    """The nvpmodel.conf of an Orin Nano Super."""
    text = sample("nvpmodel_orin_nano_super.txt")
    return text.split("## file: /etc/nvpmodel.conf", 1)[1].split("\n", 1)[1]


def monitor(number: int, channels: list[tuple[str, int, int]]) -> dict[str, str]:
    """An INA3221: (label, millivolt, milliampere) per channel."""
    folder = f"/sys/class/hwmon/hwmon{number}"
    found = {f"{folder}/name": "ina3221"}
    for channel, (label, millivolt, milliampere) in enumerate(channels, 1):
        found[f"{folder}/in{channel}_label"] = label
        found[f"{folder}/in{channel}_input"] = str(millivolt)
        found[f"{folder}/curr{channel}_input"] = str(milliampere)
    return found


def orin_nx() -> dict[str, str]:
    """Orin NX 16GB in its 15W mode, clocks pinned."""
    gpu = "/sys/class/devfreq/17000000.gpu"
    return {
        "/proc/device-tree/compatible": "nvidia,p3767-0000\\0nvidia,tegra234\\0",
        "/etc/nv_tegra_release": RELEASE.format("4.4"),
        "/proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 12000000 kB\n",
        **monitor(
            3, [("VDD_IN", 5000, 2000), ("VDD_CPU_GPU_CV", 5000, 800), ("VDD_SOC", 5000, 400)]
        ),
        f"{gpu}/device/of_node/name": "gpu\\0",
        f"{gpu}/cur_freq": "612000000",
        f"{gpu}/min_freq": "612000000",
        f"{gpu}/max_freq": "612000000",
        f"{gpu}/available_frequencies": "306000000 612000000 918000000",
    }


def agx_orin() -> dict[str, str]:
    """AGX Orin as its device tree labels it: two monitors, the second with the doubled rail."""
    first = [("VDD_GPU_SOC", 19500, 120), ("VDD_CPU_CV", 19500, 20), ("VIN_SYS_5V0", 5032, 800)]
    second = [("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5024, 60), ("NC", 0, 0)]
    return {
        "/proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0005\\0nvidia,tegra234\\0",
        **monitor(2, first),
        **monitor(5, second),
    }


def nano(**more: str) -> dict[str, str]:
    """The captured Orin Nano with memory, release and power modes; `more` by path."""
    return {
        **rows(NANO_FILE),
        "/proc/meminfo": MEMINFO,
        "/etc/nv_tegra_release": RELEASE.format("4.3"),
        "/etc/nvpmodel.conf": conf(),
        **more,
    }


def sysfs(tree: dict[str, str]) -> Sysfs:
    """Rows as files."""
    return Sysfs(RecordedFiles(tree))


def write(tree: dict[str, str], path: Path) -> Path:
    """Rows as a TSV that replays."""
    lines = [
        f"{name}\t{value.replace(chr(10), chr(92) + 'n')}\tSHAPE" for name, value in tree.items()
    ]
    path.write_text("\n".join(lines) + "\n")
    return path
