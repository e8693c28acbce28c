"""In a process that finds this folder on its path, TensorRTLLM is the engine that plays a script."""

from rhapsode_worker import engines

engines.ENGINES["TensorRTLLM"] = engines.ENGINES["Simulator"]._replace(
    module="support.scripted_engine", kind="ScriptedEngine"
)
