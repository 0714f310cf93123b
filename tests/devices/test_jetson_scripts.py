"""What lies in jetson/: scripts run here without a board, tables agree with the code."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import boards
import pytest

from ssmprof.devices.jetson import install, polling
from ssmprof.devices.jetson.device import detect
from ssmprof.devices.sysfs import RecordedFiles, Sysfs

SCRIPTS = sorted(boards.ROOT.glob("*.sh"))


def run(name: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(boards.ROOT / name), *arguments],
        capture_output=True, text=True, timeout=60, env={**os.environ, **environ}, check=False,
    )  # fmt: skip


def laid_out(tree: dict[str, str], folder: Path) -> Path:
    """The files of a board below a folder."""
    source = boards.write(tree, folder / "tree.tsv")
    polling.lay_out(source, folder / "root")
    return folder / "root"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_executable_and_never_use_sudo(script: Path) -> None:
    assert os.access(script, os.X_OK)
    for line in script.read_text().splitlines():
        code = line.split("#", 1)[0]
        # A command may be printed inside quotes, never run.
        assert "sudo" not in code or '"sudo' in code, line


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([checker, str(script)], capture_output=True, text=True, check=False)
    assert not done.stdout


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_setup_shows_its_commands_and_changes_nothing(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    root = laid_out(boards.nano(), tmp_path)
    venv = tmp_path / "venv"
    done = run("setup.sh", *arguments, BOARD_ROOT=str(root), VENV=str(venv))
    assert done.returncode == 0, done.stderr
    assert "L4T 36.4.3" in done.stdout
    commands = [line for line in done.stdout.splitlines() if line.startswith("+ ")]
    assert commands[0] == f"+ python3.10 -m venv {venv}"
    assert "requirements-jetpack6.txt" in commands[1]
    assert commands[-1].endswith("ssmprof doctor")
    assert "nothing was changed" in done.stdout
    assert not venv.exists()


def test_setup_leaves_an_environment_with_torch_alone(tmp_path: Path) -> None:
    root = laid_out(boards.nano(), tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 0\n")
    python.chmod(0o755)
    done = run("setup.sh", BOARD_ROOT=str(root), VENV=str(tmp_path / "venv"))
    assert "torch and triton are there" in done.stdout
    assert "requirements-jetpack6.txt" not in done.stdout
    assert "-m venv" not in done.stdout


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ("R35 (release), REVISION: 4.1", "too old"),
        ("R99 (release), REVISION: 1.0", "no known torch"),
    ],
)
def test_setup_stops_at_a_release_it_has_no_torch_for(
    tmp_path: Path, release: str, said: str
) -> None:
    root = laid_out(boards.nano(**{"/etc/nv_tegra_release": f"# {release}"}), tmp_path)
    done = run("setup.sh", BOARD_ROOT=str(root), VENV=str(tmp_path / "venv"))
    assert done.returncode == 1
    assert said in done.stderr
    assert "try:" in done.stderr


def test_setup_on_another_machine_says_so(tmp_path: Path) -> None:
    done = run("setup.sh", BOARD_ROOT=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "no Jetson" in done.stderr
    assert "No such file" not in done.stderr


def test_wrong_use_of_setup_shows_its_use() -> None:
    done = run("setup.sh", "--now")
    assert done.returncode == 2
    assert "unknown option --now" in done.stderr
    assert "--yes" in run("setup.sh", "--help").stdout


def test_setup_installs_what_doctor_would_print(tmp_path: Path) -> None:
    pins = (boards.ROOT / "requirements-jetpack6.txt").read_text()
    line = install.torch_line("36.4.3")
    assert install.JETPACK6_INDEX in line
    assert f"--index-url {install.JETPACK6_INDEX}\n" in pins
    for pin in ("torch==2.8.0", "triton==3.4.0"):
        assert f"\n{pin}\n" in pins
        assert pin in line
    thor = boards.rows(boards.THOR_FILE) | {
        "/proc/device-tree/compatible": "nvidia,p3834-0008\\0nvidia,tegra264\\0",
        "/etc/nv_tegra_release": "# R38 (release), REVISION: 4.0",
    }
    done = run("setup.sh", BOARD_ROOT=str(laid_out(thor, tmp_path)), VENV=str(tmp_path / "v"))
    assert "python3.12 -m venv" in done.stdout
    assert "install torch triton" in done.stdout
    assert install.torch_line("38.4.0") == "pip install torch triton"
    assert "TRITON_PTXAS_BLACKWELL_PATH" in done.stdout


@pytest.mark.parametrize("tree", [boards.nano(), boards.agx_orin()], ids=["nano", "agx"])
def test_a_capture_replays_to_the_same_readings(tmp_path: Path, tree: dict[str, str]) -> None:
    root = laid_out(tree, tmp_path)
    done = run("capture.sh", CAPTURE_ROOT=str(root))
    assert done.returncode == 0, done.stderr
    captured = tmp_path / "captured.tsv"
    captured.write_text(done.stdout)
    mine, whole = detect(Sysfs(RecordedFiles.load(captured))), detect(boards.sysfs(tree))
    assert mine is not None
    assert whole is not None
    for reading in ("power_w", "sm_hz", "temperature_c", "used_bytes", "load", "pinned"):
        assert getattr(mine, reading)() == getattr(whole, reading)(), reading
    assert (mine.board, mine.l4t, mine.power_mode) == (whole.board, whole.l4t, whole.power_mode)
    assert mine.rails() == whole.rails()


def test_a_capture_takes_nothing_that_identifies(tmp_path: Path) -> None:
    secrets = {
        "/proc/device-tree/serial-number": "1424123456789\\0",
        "/proc/sys/kernel/hostname": "host-of-somebody",
        "/proc/sys/kernel/random/boot_id": "5f1c2a0e",
        "/etc/nv_boot_control.conf": "TNSPEC 3767-300-0005-K.2-1-1-x-\nSERIAL 1424123456789\n",
    }
    done = run("capture.sh", CAPTURE_ROOT=str(laid_out(boards.nano(**secrets), tmp_path)))
    for secret in ("1424123456789", "host-of-somebody", "5f1c2a0e"):
        assert secret not in done.stdout


def test_the_container_gets_the_runtime_and_the_read_only_files() -> None:
    done = run("run-container.sh", "--print", "ssmprof:jetpack6", "doctor")
    assert done.returncode == 0
    for word in ("--runtime nvidia", "--cap-add SYS_PTRACE", "/etc/nvpmodel.conf:ro"):
        assert word in done.stdout.replace("\\", "")
    assert "--gpus" not in done.stdout
    assert run("run-container.sh").returncode == 2


@pytest.mark.parametrize("name", ["Dockerfile.jetpack6", "Dockerfile.jetpack7"])
def test_containers_build_from_what_the_checkout_has(name: str) -> None:
    lines = (boards.ROOT / name).read_text().splitlines()
    assert any(line.startswith("ARG BASE=nvcr.io/") for line in lines)
    for line in lines:
        if line.startswith("COPY "):
            for source in line.split()[1:-1]:
                # README.md is written at the top of the checkout and packaged with it.
                assert source == "README.md" or (boards.ROOT.parent / source).exists(), line
        assert "pip install torch" not in line  # the torch of the base must stay


def test_the_readme_says_what_nobody_has_verified() -> None:
    text = (boards.ROOT / "README.md").read_text()
    words = " ".join(text.split())
    assert "Nothing here has run on a board yet" in words
    for item in ("INA3221 update period", "watchdog thresholds", "JetPack 7 as a whole"):
        assert item in words
    for path in boards.ROOT.iterdir():
        assert path.name in (*text.split("`"), "README.md") or f"{path.name}/" in text, path.name


PYTHON = """#!/bin/sh
# -m venv FOLDER makes an environment whose tools write down what they were asked.
if [ "$1 $2" = "-m venv" ]; then
  mkdir -p "$3/bin"
  for tool in pip ssmprof; do
    printf '#!/bin/sh\\necho "%s $*" >> "%s/log"\\n' "$tool" "$3" > "$3/bin/$tool"
    chmod +x "$3/bin/$tool"
  done
  printf '#!/bin/sh\\ngrep -q requirements "%s/log"\\n' "$3" > "$3/bin/python"
  chmod +x "$3/bin/python"
fi
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of stand-ins for python3.10 and curl, first on the path."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name, text in {"python3.10": PYTHON, "curl": "#!/bin/sh\nexit ${CURL:-0}\n"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def test_setup_does_what_it_showed_and_a_second_run_installs_torch_no_more(
    tmp_path: Path, tools: Path
) -> None:
    root, venv = laid_out(boards.nano(), tmp_path), tmp_path / "venv"
    environ = {
        "BOARD_ROOT": str(root), "VENV": str(venv), "PATH": f"{tools}:{os.environ['PATH']}",
    }  # fmt: skip
    done = run("setup.sh", "--yes", **environ)
    assert done.returncode == 0, done.stderr
    first = (venv / "log").read_text().splitlines()
    assert "--no-deps" in first[0]
    assert "requirements-jetpack6.txt" in first[0]
    assert first[1].startswith("pip install filelock")
    assert first[-2] == f"pip install {boards.ROOT.parent}"
    assert first[-1] == "ssmprof doctor"
    assert run("setup.sh", "--yes", **environ).returncode == 0
    second = (venv / "log").read_text().splitlines()[len(first) :]
    assert second == first[-2:]


def test_setup_stops_with_the_line_where_the_index_does_not_answer(
    tmp_path: Path, tools: Path
) -> None:
    root, venv = laid_out(boards.nano(), tmp_path), tmp_path / "venv"
    path = f"{tools}:{os.environ['PATH']}"
    done = run("setup.sh", "--yes", BOARD_ROOT=str(root), VENV=str(venv), PATH=path, CURL="7")
    assert done.returncode == 1
    assert f"{install.JETPACK6_INDEX} does not answer" in done.stderr
    assert not (venv / "log").exists()


def test_setup_without_python_names_the_package(tmp_path: Path) -> None:
    root = laid_out(boards.nano(), tmp_path)
    done = run("setup.sh", "--yes", BOARD_ROOT=str(root), VENV=str(tmp_path / "v"), PATH="/bin")
    if shutil.which("python3.10", path="/bin"):
        pytest.skip("this machine has a python3.10 of its own")
    assert done.returncode == 1
    assert "sudo apt install python3.10-venv" in done.stderr
