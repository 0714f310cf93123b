"""Pods of Dask's Kubernetes operator: a secret with the keys, a DaskCluster, a forwarded port.

The manifests are checked against the operator's own schema by the tests; no cluster was seen.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from distributed.security import Security

from ssmprof.errors import ConfigError
from ssmprof.session.executors.fleet import keys
from ssmprof.session.executors.fleet.asked import KubernetesAsked
from ssmprof.session.executors.fleet.clusters import DEATHS, START_S
from ssmprof.session.executors.fleet.post import RESOURCE

PORT = 8786
_KEYS = "/etc/ssmprof/keys"
_OPERATOR = "https://helm.dask.org"


class Pods:
    """A running DaskCluster: `address` is its scheduler's, forwarded to this host."""

    def __init__(self, asked: KubernetesAsked, security: Security) -> None:
        """Raises ConfigError where the cluster refuses, or starts nothing in time."""
        try:
            import kr8s
            from dask_kubernetes.operator._objects import DaskCluster
        except ImportError as error:
            raise ConfigError(
                "a fleet of Kubernetes needs dask-kubernetes",
                cause=str(error),
                fix="pip install 'ssmprof[fleet]'",
            ) from None
        secret, cluster = manifests(asked, security)
        self._made: list[Any] = []
        try:
            for kind, manifest in ((kr8s.objects.Secret, secret), (DaskCluster, cluster)):
                made = kind(manifest, namespace=asked.namespace)
                _sync(made.create())
                self._made.append(made)
            self.address = f"tls://localhost:{_sync(_forwarded(asked))}"
        except Exception as error:
            self.close()
            raise ConfigError(
                f"Kubernetes starts no fleet: {error}",
                fix=f"kubectl must reach the cluster, and Dask's operator run there ({_OPERATOR})",
            ) from None

    def close(self) -> None:
        """Delete the cluster and its keys."""
        while self._made:
            _sync(self._made.pop().delete())


def manifests(asked: KubernetesAsked, security: Security) -> tuple[dict[str, Any], dict[str, Any]]:
    """The secret with the keys, and the DaskCluster that mounts it. Scheduler and workers say
    nothing without TLS; workers hold one GPU each.
    """
    from dask_kubernetes.operator import make_cluster_spec

    labels = {"app.kubernetes.io/managed-by": "ssmprof"}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"{asked.name}-keys", "namespace": asked.namespace, "labels": labels},
        "type": "Opaque",
        "data": {
            name: base64.b64encode(text.encode()).decode()
            for name, text in keys.contents(security).items()
        },
    }
    at = f"tls://{asked.name}-scheduler.{asked.namespace}.svc:{PORT}"
    command = f"dask worker {at} --protocol tls --nthreads 1 --resources {RESOURCE}=1"
    cluster = make_cluster_spec(
        name=asked.name, image=asked.image, n_workers=asked.workers, env=_environ(),
        worker_command=command,
    )  # fmt: skip
    cluster["metadata"] |= {"namespace": asked.namespace, "labels": labels}
    scheduler, worker = (cluster["spec"][role]["spec"] for role in ("scheduler", "worker"))
    scheduler["containers"][0]["args"] += ["--protocol", "tls"]
    size = {"cpu": asked.cpu, "memory": asked.memory, asked.gpu: "1"}
    worker["containers"][0]["resources"] = {"requests": dict(size), "limits": dict(size)}
    scheduler["containers"][0].pop("resources", None)
    for pod in (scheduler, worker):
        pod["volumes"] = [
            {"name": "keys", "secret": {"secretName": f"{asked.name}-keys", "defaultMode": 0o400}}
        ]
        mount = {"name": "keys", "mountPath": _KEYS, "readOnly": True}
        pod["containers"][0]["volumeMounts"] = [mount]
    return secret, cluster


def _environ() -> list[dict[str, str]]:
    """Dask's settings as variables: where the keys are, and that nothing goes without them."""
    found = keys.settings(_KEYS) | {"distributed.scheduler.allowed-failures": DEATHS - 1}
    return [
        {"name": f"DASK_{name.replace('.', '__').replace('-', '_').upper()}", "value": str(value)}
        for name, value in found.items()
    ]


async def _forwarded(asked: KubernetesAsked) -> int:
    """A port of this host that leads to the scheduler, once its service is there."""
    import kr8s.asyncio
    from dask_kubernetes.operator.networking import port_forward_service

    name = f"{asked.name}-scheduler"

    async def forwarded() -> int:
        while not [
            one async for one in kr8s.asyncio.get("services", name, namespace=asked.namespace)
        ]:
            await asyncio.sleep(1.0)
        return await port_forward_service(name, asked.namespace, PORT)

    return await asyncio.wait_for(forwarded(), START_S)


def _sync(work: Any) -> Any:
    """What kr8s returns, awaited where it is to be."""
    return asyncio.run(work) if asyncio.iscoroutine(work) else work
