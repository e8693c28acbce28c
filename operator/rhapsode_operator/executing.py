"""Carry out a plan, step by step. Called by `reconciling`.

Each step is taken whatever became of the others: one pod that is refused must not cost those that serve their
Services. What went wrong is returned, all of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from rhapsode_operator.acting import Hands
from rhapsode_operator.building import Blueprint, Body, build_budget, build_services
from rhapsode_operator.cases import Case, Taken
from rhapsode_operator.errors import OperatorError
from rhapsode_operator.observing import Pod, Worker
from rhapsode_operator.planning import Plan, Removal
from rhapsode_operator.weighing import TAKEN_S

OBJECTS_S = 600.0
"""How often Services and budget are applied again: nobody watches them."""


class Order(NamedTuple):
    """What is to be done for one resource."""

    worker: Worker
    case: Case
    blueprint: Blueprint
    pod_hash: str
    pods: Sequence[Pod]
    plan: Plan


class Executor:
    """Takes the steps of plans."""

    def __init__(self, hands: Hands, clock: Callable[[], float]) -> None:
        self._hands, self._clock = hands, clock

    async def execute(self, order: Order) -> list[OperatorError]:
        """Take every step but drains; return what went wrong."""
        self._believe(order)
        make = partial(self._hands.create, order.blueprint, pod_hash=order.pod_hash)
        names = {order.blueprint.pod_name(ordinal): ordinal for ordinal in order.plan.create}
        return [
            *await _all(self._remove(order, removal) for removal in order.plan.delete),
            *await _all(self._named(order, f"Pod {name}", partial(make, ordinal)) for name, ordinal in names.items()),
            *await _all(self._furnish(order, body) for body in _furniture(order.blueprint)),
            *await _all(self._guard(order, pod) for pod in order.pods),
        ]

    def _believe(self, order: Order) -> None:
        """Begin with what an operator before us made."""
        if not order.case.objects and order.worker.is_furnished:
            made = order.worker.generation, self._clock() - OBJECTS_S / 2
            order.case.objects.update((_name(body), made) for body in _furniture(order.blueprint))

    async def _remove(self, order: Order, removal: Removal) -> None:
        if order.case.may_remove(removal.pod, self._clock()):
            await self._hands.remove(order.blueprint.resource, removal)
            order.case.note_removal(removal.pod, self._clock())

    async def _furnish(self, order: Order, body: Body) -> None:
        """Make a Service or the budget so, unless that was done lately."""
        what, made, now = _name(body), order.case.objects, self._clock()
        known = what in made
        if known and made[what][0] == order.worker.generation and now - made[what][1] < OBJECTS_S:
            return
        if await self._named(order, what, partial(self._hands.furnish, body, known=known)):
            made[what] = (order.worker.generation, now)

    async def _guard(self, order: Order, pod: Pod) -> None:
        """Protect a loading pod from autoscalers, and no other, unless the template has its own word."""
        if order.blueprint.has_own_protection or pod.owner != order.case.uid or pod.deleting or pod.over:
            return
        loads = order.blueprint.resource.spec.disruption.protect_load and not pod.has_served
        if pod.protected != loads and (loads or pod.ready):
            await self._hands.protect(pod, protected=loads)

    async def _named(self, order: Order, what: str, make: Callable[[], Awaitable[None]]) -> bool:
        """Make what has a name; return False while that is known to be another's, and is not tried."""
        case, now = order.case, self._clock()
        if case.is_taken(what, order.worker.generation, now):
            return False
        try:
            await make()
        except OperatorError as exc:
            if exc.reason == "NameTaken":
                case.objects.pop(what, None)
                case.taken[what] = Taken(order.worker.generation, now + TAKEN_S, exc)
            raise
        case.taken.pop(what, None)
        return True


def is_furnished(order: Order) -> bool:
    """Return whether all Services and the budget were made for the present spec."""
    made = order.case.objects
    return all(made.get(_name(body), (0,))[0] == order.worker.generation for body in _furniture(order.blueprint))


def is_reachable(order: Order) -> bool:
    """Return whether the relay Service is ours; before we know, what the status says counts."""
    what, case = f"Service {order.worker.name}", order.case
    return what in case.objects or (bool(order.worker.status.endpoint) and what not in case.taken)


def _furniture(blueprint: Blueprint) -> Iterator[Body]:
    """Yield Services and budget. A budget for a single pod would forbid nothing, and cost as much as a Service."""
    yield from build_services(blueprint.resource)
    if blueprint.resource.spec.replicas > 1:
        yield build_budget(blueprint.resource)


def _name(body: Body) -> str:
    return f"{body['kind']} {body['metadata']['name']}"


async def _all(works: Iterable[Awaitable[object]]) -> list[OperatorError]:
    """Do everything at once and to the end; return what went wrong."""
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, OperatorError):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, OperatorError)]
