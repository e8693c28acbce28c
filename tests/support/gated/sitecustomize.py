"""In a process that finds this folder on its path, the simulator waits where a test holds it."""

from rhapsode_worker import engines

engines.ENGINES["Simulator"] = engines.ENGINES["Simulator"]._replace(
    module="support.gated_engine", kind="GatedEngine"
)
