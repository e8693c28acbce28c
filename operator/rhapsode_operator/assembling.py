"""Put the deciding half and the running half together. Called by `__main__` through `running`."""

from typing import Any

from rhapsode_operator.building import Images
from rhapsode_operator.observing import Pod, Worker, read_pod, read_worker
from rhapsode_operator.posting import Poster
from rhapsode_operator.reconciling import Ports, Reconciler
from rhapsode_operator.running import Parts


class Assembly:
    """How objects are read, and who works on them."""

    def make_worker(self, body: dict[str, Any]) -> Worker:
        return read_worker(body)

    def make_pod(self, body: dict[str, Any]) -> Pod:
        return read_pod(body)

    def make_reconciler(self, parts: Parts) -> Reconciler:
        settings = parts.settings
        images = Images(
            relay=settings.relay_image,
            worker_cpu=settings.worker_image_cpu,
            worker_tensorrt_llm=settings.worker_image_tensorrt_llm,
        )
        ports = Ports(
            cluster=parts.kube,
            store=parts.watched,
            line=parts.queue,
            meter=parts.metrics,
            poster=Poster(parts.kube, parts.metrics),
        )
        reconciler = Reconciler(ports, images, settings.identity)
        parts.metrics.streams.set_function(lambda: reconciler.telemetry.connected)
        return reconciler
