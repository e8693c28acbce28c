"""What to do next with a worker: one or two commands, by what is wrong with it. Pure. Called by `explaining`."""

from collections.abc import Mapping

from rhapsode.kubectl.facts import Facts

EDIT = "kubectl edit iw {name}{flags}"
DESCRIBE = "kubectl describe pod {pod}{flags}"
LOG = "kubectl logs {pod} -c worker{flags}"
LAST_LOG = "kubectl logs {pod} -c worker --previous{flags}"
RELAY_LOG = "kubectl logs {pod} -c relay --previous{flags}"
NODES = "kubectl get nodes -o custom-columns='NODE:.metadata.name,GPUS:.status.allocatable.nvidia\\.com/gpu'{context}"
RIGHTS = "kubectl get resourcequota,limitrange{flags}"
OPERATOR = "kubectl get deployments -A --field-selector=metadata.name=rhapsode-operator{context}"
WATCH = "kubectl rhapsode watch {name}{flags}"
UNTIL = "kubectl rhapsode watch {name}{flags} --until-ready"
ASK = 'kubectl rhapsode ask {name}{flags} "Hello?"'
RESUME = """kubectl patch iw {name}{flags} --type=merge -p '{{"spec":{{"suspend":false}}}}'"""
SCALE = "kubectl scale iw {name}{flags} --replicas=1"

_BY_FAILURE: Mapping[str, tuple[str, ...]] = {
    "ImagePull": (DESCRIBE, EDIT),
    "Unschedulable": (NODES, EDIT),
    "ContainerOOM": (EDIT, LAST_LOG),
    "CUDAOutOfMemory": (EDIT, LAST_LOG),
    "ModelNotFound": (EDIT,),
    "SourceNotSupported": (EDIT,),
    "BadEngineOption": (EDIT,),
    "EngineNotInstalled": (EDIT,),
    "ModelLoadFailed": (LAST_LOG, EDIT),
    "ModelGated": (EDIT, "kubectl get secrets{flags}"),
    "CacheFull": ("kubectl get pvc{flags}", EDIT),
    "FetchFailed": (LOG, UNTIL),
    "EngineCrash": (LAST_LOG, DESCRIBE),
    "WorkerCrash": (LAST_LOG, DESCRIBE),
    "RelayCrash": (RELAY_LOG, DESCRIBE),
    "LoadStalled": (LOG, WATCH),
    "RelayUnreachable": ("kubectl get networkpolicies{flags}", WATCH),
    "PodRejected": (NODES, DESCRIBE),
    "Evicted": (DESCRIBE, UNTIL),
    "PodFailed": (DESCRIBE, UNTIL),
    "NodeLost": ("kubectl get nodes{context}", DESCRIBE),
    "ContainerConfig": (DESCRIBE, EDIT),
    "NameTaken": ("kubectl get pods,services,pdb {name}{flags} --ignore-not-found --show-labels",),
    "InvalidSpec": (EDIT,),
    "Forbidden": (RIGHTS, OPERATOR),
    "VRAMHigh": (EDIT, WATCH),
}


def advise(facts: Facts, flags: str, *, suspended_by_spec: bool) -> list[str]:
    """Return one or two commands. `flags` choose the cluster and namespace, as this command was given them."""
    words = flags.split(" -n ", maxsplit=1)
    given = {"name": facts.name, "pod": _pod(facts), "flags": flags, "context": words[0]}
    return [command.format(**given) for command in _choose(facts, suspended_by_spec=suspended_by_spec)]


def _choose(facts: Facts, *, suspended_by_spec: bool) -> tuple[str, ...]:
    if not facts.conditions:
        return (OPERATOR, WATCH)
    if facts.failure is not None:
        return _BY_FAILURE.get(facts.failure.reason, (DESCRIBE, WATCH))
    if facts.suspended:
        return (RESUME if suspended_by_spec else SCALE, UNTIL)
    if facts.phase == "Ready":
        return (ASK, WATCH)
    return (UNTIL, ASK)


def _pod(facts: Facts) -> str:
    """Return the pod to look at: the one that the failure's message names, else the first that is not ready."""
    message = facts.failure.message if facts.failure else ""
    named = [one.pod for one in facts.pods if one.pod in message.replace(":", " ").replace(",", " ").split()]
    unready = [one.pod for one in facts.pods if not one.ready]
    return next(iter([*named, *unready, *(one.pod for one in facts.pods)]), f"{facts.name}-0")
