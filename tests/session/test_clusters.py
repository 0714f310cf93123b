"""Fleets beyond one host: a real sshd, a real Slurm and TLS on the loopback; manifests of pods."""

from __future__ import annotations

import base64
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakes
import make
import pytest

import ssmprof
from ssmprof.errors import EXIT_USAGE, ConfigError

pytest.importorskip("distributed", reason="the extra `fleet` is not installed")
pytest.importorskip("cryptography", reason="the extra `fleet` is not installed")

import crew
from distributed.security import Security

from ssmprof.cli import main
from ssmprof.session.executors import executor_for
from ssmprof.session.executors.fleet import asked, keys, starting
from ssmprof.session.executors.fleet.clusters import on_this_host
from ssmprof.session.executors.fleet.dask import Dask
from ssmprof.session.executors.fleet.starting import start

ASKED = make.scenario(contexts=(64, 128), device="cpu")
KEYS = sorted(job.key for job in make.jobs(ASKED))
ENVIRON = {**fakes.ENVIRON, crew.DEATHS: "/nonexistent"}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def python_here(folder: Path) -> str:
    """An interpreter as another host has it: it knows ssmprof and the tests."""
    file = folder / "python"
    path = os.pathsep.join(one for one in sys.path if one)
    deaths = f"{crew.DEATHS}={ENVIRON[crew.DEATHS]}"
    file.write_text(f'#!/bin/sh\nexec env PYTHONPATH="{path}" {deaths} {sys.executable} "$@"\n')
    file.chmod(0o755)
    return str(file)


def swept(fleet: Dask, path: Path) -> ssmprof.Run:
    return ssmprof.sweep(ASKED, executor=fleet, examine=False, output=path)


def test_ctrl_c_of_a_terminal_ends_no_worker_of_this_host() -> None:
    """A terminal sends it to all processes; workers that died of it left the sweep waiting."""
    with on_this_host([""], environ=ENVIRON) as cluster:
        (nanny,) = cluster.workers.values()
        before = nanny.pid
        os.kill(before, signal.SIGINT)
        time.sleep(3.0)
        assert nanny.pid == before


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A daemon of its own on its own port, with throw-away keys: fields of a fleet's file."""
    daemon = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
    if daemon is None:
        pytest.skip("no sshd: apt-get install openssh-server")
    pytest.importorskip("asyncssh")
    port = free_port()
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(command, check=True)
    (tmp_path / "allowed").write_text((tmp_path / "user.pub").read_text())
    host_key = " ".join((tmp_path / "host.pub").read_text().split()[:2])
    known = tmp_path / "known_hosts"
    known.write_text("".join(f"[{one}]:{port} {host_key}\n" for one in ("127.0.0.1", "localhost")))
    config = tmp_path / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path / 'host'}\n"
        f"AuthorizedKeysFile {tmp_path / 'allowed'}\nPidFile none\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nSubsystem sftp internal-sftp\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([daemon, "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            break
        except OSError:
            assert time.monotonic() < end, "sshd does not start"
            time.sleep(0.05)
    yield {
        "port": port, "user": getpass.getuser(), "identity": str(tmp_path / "user"),
        "known_hosts": str(known), "python": python_here(tmp_path),
    }  # fmt: skip
    process.terminate()
    process.wait(10)


def test_hosts_by_ssh_measure_under_keys_that_are_gone_afterwards(
    sshd: dict[str, Any], tmp_path: Path
) -> None:
    wanted = asked.SshAsked(hosts=("127.0.0.1",), gpus=2, **sshd)
    fleet = start(wanted, "cpu", crew.by_formula)
    try:
        assert fleet._client.scheduler.address.startswith("tls://")
        (placed,) = Path("/tmp").glob("ssmprof-keys-*")
        assert placed.stat().st_mode & 0o777 == 0o700
        assert {file.stat().st_mode & 0o777 for file in placed.iterdir()} == {0o600}
        found = swept(fleet, tmp_path / "run")
    finally:
        fleet.close()
    assert sorted(one.key for one in found.outcomes) == KEYS
    assert {one.cpu for one in found.environments.values()} == {"half 0", "half 1"}
    assert not list(Path("/tmp").glob("ssmprof-keys-*"))


def test_a_host_that_ssh_does_not_reach_or_trust_is_named(
    sshd: dict[str, Any], tmp_path: Path
) -> None:
    nobody = tmp_path / "nobody"
    nobody.write_text("")
    for changes in ({"known_hosts": str(nobody)}, {"port": free_port()}):
        wanted = asked.SshAsked(hosts=("127.0.0.1",), **(sshd | changes))
        with pytest.raises(ConfigError, match=r"127\.0\.0\.1: SSH fails"):
            start(wanted, "cpu", crew.by_formula)


def test_an_interpreter_that_is_not_there_is_told(sshd: dict[str, Any]) -> None:
    wanted = asked.SshAsked(hosts=("127.0.0.1",), **(sshd | {"python": "/nowhere/python"}))
    with pytest.raises(ConfigError, match="no fleet on") as raised:
        start(wanted, "cpu", crew.by_formula)
    assert "ssmprof[fleet]" in str(raised.value)
    assert not list(Path("/tmp").glob("ssmprof-keys-*"))


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[str, Security]]:
    """A scheduler and a worker that speak TLS alone, and the keys."""
    security = keys.temporary()
    (tmp_path / "keys").mkdir(mode=0o700)
    keys.write(security, tmp_path / "keys")
    files = [f"--tls-ca-file={tmp_path}/keys/ca.pem", f"--tls-cert={tmp_path}/keys/cert.pem"]
    files += [f"--tls-key={tmp_path}/keys/key.pem", "--protocol", "tls"]
    address = f"tls://127.0.0.1:{free_port()}"
    environ = os.environ | ENVIRON | {"CUDA_VISIBLE_DEVICES": "0"}
    environ |= {"PYTHONPATH": os.pathsep.join(sys.path)}
    quiet: dict[str, Any] = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    python = [sys.executable, "-m"]
    at = ["--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--no-dashboard"]
    mine = [address, "--nthreads", "1", "--resources", "ssmprof-device=1", "--death-timeout", "30"]
    started = [
        subprocess.Popen(
            [*python, f"distributed.cli.dask_{what}", *words, *files], env=environ, **quiet
        )
        for what, words in (("scheduler", at), ("worker", mine))
    ]
    end = time.monotonic() + 30
    while socket.socket().connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))):
        assert time.monotonic() < end, "the scheduler does not start"
        time.sleep(0.1)
    yield address, security
    for process in reversed(started):
        process.terminate()
        process.wait(30)


def test_a_scheduler_under_tls_is_used_with_its_keys_and_without_them_it_is_not(
    tls: tuple[str, Security], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dask import config

    address, security = tls
    fleet = Dask.at(address, crew.by_formula, security=security)
    try:
        assert sorted(one.key for one in swept(fleet, tmp_path / "run").outcomes) == KEYS
    finally:
        fleet.close()
    with config.set({"distributed.comm.timeouts.connect": "2s"}):
        for stranger in (keys.temporary(), None):
            with pytest.raises(ConfigError, match="no scheduler answers"):
                Dask.at(address, crew.by_formula, security=stranger)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('kind = "ssh"', "hosts"),
        ('kind = "ssh"\nhosts = []', "hosts"),
        ('kind = "ssh"\nhosts = ["a"]\npassword = "x"', "password"),
        ('kind = "moab"', "moab"),
        ("kind = ", "Invalid"),
    ],
)
def test_a_file_that_is_wrong_names_its_field(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said) as raised:
        executor_for("any", fleet=str(file))
    assert "kind =" in str(raised.value)


def test_words_and_files_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text('kind = "ssh"\nhosts = ["a", "b"]\n')
    assert asked.read(str(file)) == asked.read("ssh:a,b") == asked.SshAsked(hosts=("a", "b"))
    assert asked.read("tls://a:1") == asked.AddressAsked(address="tls://a:1")
    with pytest.raises(ConfigError, match="no host"):
        asked.read("ssh:")


def test_a_plan_of_a_fleet_says_who_would_measure_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(starting, "partial", lambda *_: crew.by_card)
    file = tmp_path / "fleet.toml"
    file.write_text('kind = "local"\ndevices = ["0", "1", "2"]\n')
    with pytest.raises(SystemExit) as end:
        main(["plan", "smoke", "--fleet", str(file), "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert end.value.code == 0
    totals = {row["device"]: row for row in rows if row["block"] == "total"}
    assert {name: row["workers"] for name, row in totals.items()} == {"Fast GPU": 2, "Slow GPU": 1}
    fast, slow = totals["Fast GPU"], totals["Slow GPU"]
    assert fast["points"] == slow["points"] == 2
    assert fast["time_s"] == pytest.approx(slow["time_s"] / 2)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Slurm of one node, with its own keys, ports and state."""
    programs = [shutil.which(name, path=PROGRAMS) for name in ("munged", "slurmctld", "slurmd")]
    if None in programs or shutil.which("sbatch") is None:
        pytest.skip("no Slurm: apt-get install slurmctld slurmd slurm-client munge")
    pytest.importorskip("dask_jobqueue")
    if os.getuid() != 0:
        pytest.skip("slurmd starts jobs as root only")
    where = tmp_path / "slurm"
    for name in ("", "state", "spool"):
        (where / name).mkdir(mode=0o755)
    for above in where.parents:
        if above.stat().st_uid == os.getuid() and above != Path("/"):
            above.chmod(above.stat().st_mode & ~0o022)  # munge trusts no path that others write
    (where / "munge.key").write_bytes(os.urandom(1024))
    (where / "munge.key").chmod(0o400)
    host = socket.gethostname().split(".")[0]
    text = SLURM.format(where=where, host=host, first=free_port(), second=free_port())
    (where / "slurm.conf").write_text(text)
    munged, slurmctld, slurmd = map(str, programs)
    files = [f"--{name}={where}/munge.{end}" for name, end in MUNGE.items()]
    conf = ["-D", "-f", str(where / "slurm.conf")]
    log = (where / "log").open("wb")
    started: list[subprocess.Popen[bytes]] = []
    monkeypatch.setenv("SLURM_CONF", str(where / "slurm.conf"))
    try:
        for command in (
            [munged, "--foreground", "--force", *files],
            [slurmctld, *conf],
            [slurmd, *conf],
        ):
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
            time.sleep(1.0)
        end = time.monotonic() + 30
        while b"idle" not in subprocess.run(["sinfo", "-h"], capture_output=True).stdout:
            if time.monotonic() > end:
                pytest.skip(f"Slurm does not start here: {(where / 'log').read_text()[-500:]}")
            time.sleep(0.3)
        yield
    finally:
        subprocess.run(["scancel", "--user", getpass.getuser()], capture_output=True)
        for process in reversed(started):
            process.terminate()
            process.wait(20)
        log.close()


PROGRAMS = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
MUNGE = {
    "socket": "socket", "key-file": "key", "pid-file": "pid", "seed-file": "seed", "log-file": "log"
}  # fmt: skip
SLURM = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={first}
SlurmdPort={second}
AuthType=auth/munge
AuthInfo=socket={where}/munge.socket
StateSaveLocation={where}/state
SlurmdSpoolDir={where}/spool
SlurmctldPidFile={where}/slurmctld.pid
SlurmdPidFile={where}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def test_jobs_of_slurm_measure_under_tls(slurm: None, tmp_path: Path) -> None:
    cards = ["export CUDA_VISIBLE_DEVICES=$SLURM_JOB_ID", f"cd {tmp_path}"]
    wanted = asked.SlurmAsked(
        jobs=2, partition="main", walltime="00:05:00", cores=1, memory="500MB", gpus=0,
        prologue=tuple(cards), python=python_here(tmp_path), shared=str(tmp_path),
        host="127.0.0.1",
    )  # fmt: skip
    fleet = start(wanted, "cpu", crew.by_formula)
    try:
        assert fleet._client.scheduler.address.startswith("tls://")
        found = swept(fleet, tmp_path / "run")
    finally:
        fleet.close()
    assert sorted(one.key for one in found.outcomes) == KEYS
    assert len(found.environments) == 2
    assert not list(tmp_path.glob(".ssmprof-keys-*/*"))


def test_a_slurm_that_takes_no_job_says_so(slurm: None, tmp_path: Path) -> None:
    wanted = asked.SlurmAsked(partition="nowhere", shared=str(tmp_path), host="127.0.0.1", gpus=0)
    with pytest.raises(ConfigError, match="Slurm takes no job") as raised:
        start(wanted, "cpu", crew.by_formula)
    assert "partition" in str(raised.value)


def test_manifests_of_pods_hold_against_the_operators_schema() -> None:
    """No cluster is asked: this is what could be said without one."""
    jsonschema = pytest.importorskip("jsonschema")
    yaml = pytest.importorskip("yaml")
    dask_kubernetes = pytest.importorskip("dask_kubernetes")
    from ssmprof.session.executors.fleet.kubernetes import manifests

    wanted = asked.KubernetesAsked(
        image="here/ssmprof:1", workers=3, namespace="bench", memory="9Gi"
    )
    security = keys.temporary()
    secret, cluster = manifests(wanted, security)
    chart = Path(dask_kubernetes.__file__).parent / "operator/deployment/helm"
    file = chart / "dask-kubernetes-operator/crds/daskcluster.yaml"
    definition = yaml.safe_load(file.read_text())
    (version,) = definition["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    jsonschema.validate({"spec": cluster["spec"]}, _strict(schema))
    worker, scheduler = (cluster["spec"][role]["spec"] for role in ("worker", "scheduler"))
    assert cluster["spec"]["worker"]["replicas"] == 3
    (container,) = worker["containers"]
    assert container["resources"]["limits"] == {"cpu": "4", "memory": "9Gi", "nvidia.com/gpu": "1"}
    words = " ".join(container["args"])
    assert "tls://ssmprof-scheduler.bench.svc:8786 --protocol tls" in words
    assert "--resources ssmprof-device=1" in words
    assert scheduler["containers"][0]["args"][-2:] == ["--protocol", "tls"]
    for pod in (worker, scheduler):
        environ = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
        assert environ["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "True"
        assert environ["DASK_DISTRIBUTED__COMM__TLS__CA_FILE"].endswith("/ca.pem")
        assert pod["volumes"][0]["secret"]["secretName"] == secret["metadata"]["name"]
    found = {name: base64.b64decode(text).decode() for name, text in secret["data"].items()}
    assert found == keys.contents(security)
    assert "PRIVATE KEY" not in json.dumps(cluster)


def _strict(schema: Any) -> Any:
    """The schema, in which a field that it does not know is an error, as for kubectl."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _strict(one) for name, one in schema.items()}
    open_ended = (
        found.get("x-kubernetes-preserve-unknown-fields") or found.get("properties", {}) == {}
    )
    if found.get("type") == "object" and "additionalProperties" not in found and not open_ended:
        found["additionalProperties"] = False
    if found.pop("x-kubernetes-int-or-string", False):
        found.pop("type", None)
    return found


@pytest.mark.parametrize("command", ["sweep", "plan"])
def test_a_fleet_and_all_devices_are_one_too_many(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "smoke", "--fleet", "ssh:a", "--device", "all"])
    assert end.value.code == EXIT_USAGE
    assert "both say where" in capsys.readouterr().err
