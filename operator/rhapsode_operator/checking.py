"""Whether the operator can work here: the CRD is there, is ours, and the Role allows what is needed.

Asked by `running` before anything starts. What a restart cannot help is one CannotRun: what, where, what to do.
"""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from rhapsode_contract.names import API_VERSION, GROUP, KIND
from rhapsode_contract.resources import Spec
from rhapsode_contract.statuses import Status
from rhapsode_operator.errors import CannotRun, ForbiddenError, GoneError, OperatorError, RetryableError
from rhapsode_operator.permissions import LEAD, WORK, Rule
from rhapsode_operator.settings import OperatorSettings

CRD = f"inferenceworkers.{GROUP}"
INSTALL = "kubectl apply --server-side -f crds/"
SCHEMA_S = 10.0
"""How long the schema of a fresh CRD may take to appear in the API server's description of itself."""
Body = dict[str, Any]
_log = logging.getLogger("rhapsode.operator.check")


class CheckedPort(Protocol):
    """What we ask."""

    async def get(self, path: str) -> Body: ...
    async def may(self, verb: str, group: str, resource: str, namespace: str) -> bool: ...


async def check(port: CheckedPort, settings: OperatorSettings) -> None:
    """Return when the operator can work; wait for an API server that does not answer yet."""
    while True:
        try:
            await check_crd(port)
            await check_permissions(port, settings)
        except RetryableError as exc:
            _log.warning("Waiting for the API server: %s", exc)
            await asyncio.sleep(2)
        else:
            return


async def check_crd(port: CheckedPort) -> None:
    """Raise CannotRun if the CRD is missing or too old."""
    served = await _served(port)
    if "inferenceworkers" not in served:
        raise CannotRun(f"The CRD {CRD} ({API_VERSION}) is not installed in this cluster. Install it: {INSTALL}")
    if "inferenceworkers/status" not in served:
        raise CannotRun(f"The CRD {CRD} is too old: it has no status subresource. Replace it: {INSTALL}")
    described = await _described(port)
    if missing := [name for name in _needed() if name not in described]:
        raise CannotRun(
            f"The CRD {CRD} is too old for this operator: it lacks {', '.join(missing)}. Replace it: {INSTALL}"
        )


async def check_permissions(port: CheckedPort, settings: OperatorSettings) -> None:
    """Raise CannotRun if we may not do what we need to do."""
    wanted = [*_wanted(WORK, settings.watch_namespaces or ("",)), *_wanted(LEAD, (settings.namespace,))]
    try:
        allowed = await asyncio.gather(*(port.may(*one) for one in wanted))
    except ForbiddenError:  # a cluster where nobody may ask: the first request will tell
        return
    missing = [_words(*one) for one, may in zip(wanted, allowed, strict=True) if not may]
    if missing:
        raise CannotRun(
            f"This operator may not {'; '.join(missing)}. Grant it deploy/role.yaml: bind the ClusterRole "
            f"where it serves and the Role in {settings.namespace}",
            reason="Forbidden",
        )


async def _served(port: CheckedPort) -> set[str]:
    try:
        answer = await port.get(f"/apis/{API_VERSION}")
    except GoneError:
        return set()
    except OperatorError as exc:
        if isinstance(exc, RetryableError):
            raise
        raise CannotRun(f"This operator may not ask which kinds there are at /apis/{API_VERSION}: {exc}") from exc
    return {resource["name"] for resource in answer["resources"]}


async def _described(port: CheckedPort) -> set[str]:
    """Return the fields of the installed CRD, such as spec.model."""
    for _ in range(int(SCHEMA_S * 2)):
        try:
            answer = await port.get(f"/openapi/v3/apis/{API_VERSION}")
            return set(_fields(answer["components"]["schemas"]))
        except GoneError:
            await asyncio.sleep(0.5)
    raise RetryableError(f"the API server does not describe {API_VERSION} yet", reason="NoSchema")


def _fields(schemas: Body) -> Iterator[str]:
    for schema in schemas.values():
        if any(kind.get("kind") == KIND for kind in schema.get("x-kubernetes-group-version-kind", [])):
            for part in ("spec", "status"):
                fields = schema["properties"].get(part, {}).get("properties", {})
                yield from (f"{part}.{name}" for name in fields)


def _needed() -> list[str]:
    parts = (("spec", Spec), ("status", Status))
    return [f"{part}.{field.encode_name}" for part, kind in parts for field in msgspec.structs.fields(kind)]


def _wanted(rules: tuple[Rule, ...], namespaces: tuple[str, ...]) -> Iterator[tuple[str, str, str, str]]:
    for namespace in namespaces:
        for rule in rules:
            yield from ((verb, rule.group, rule.resource, namespace) for verb in rule.verbs)


def _words(verb: str, group: str, resource: str, namespace: str) -> str:
    where = f"in the namespace {namespace}" if namespace else "in all namespaces"
    return f"{verb} {resource}{'.' + group if group else ''} {where}"
