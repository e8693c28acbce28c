"""The admin port: health, readiness, metrics, and how the worker is. It never serves client data."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from quart import Quart, Response

from rhapsode_relay.answering import bare_app, json_answer
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.reading import Readers
from rhapsode_relay.worker_routes import worker_routes


def create_admin(house: Conductor, readers: Readers, registry: CollectorRegistry) -> Quart:
    """Return the application of the admin port."""
    app = bare_app("rhapsode-admin", house.counts)
    app.register_blueprint(worker_routes(house, readers))

    @app.get("/healthz")
    async def healthz() -> Response:
        return json_answer({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> Response:
        ready = house.worker.ready and not house.draining
        phase = "draining" if house.draining else house.worker.phase
        return json_answer({"status": phase}, 200 if ready else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return app
