"""Machines by what they are for: declarations on the class of a layout, handles on a live one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar, overload

from pytest_carthage.model.machine import Machine
from pytest_carthage.model.role import Role, several
from pytest_carthage.planning.declaration import Declaration
from pytest_carthage.planning.plan import Plan

__all__ = ["OFFERING", "WITH_ROLE"]

Sought = TypeVar("Sought")
H = TypeVar("H")
H_co = TypeVar("H_co", covariant=True)


def _offers(roles: Iterable[Role], service: str) -> bool:
    return any(service in several(role.offers) for role in roles)


def _has(roles: Iterable[Role], kind: type[Role]) -> bool:
    given: object = kind
    if not (isinstance(given, type) and issubclass(given, Role)):
        raise TypeError(f"with_role({kind!r}): that is no class of roles; try: with_role(Postgres)")
    return any(isinstance(role, kind) for role in roles)


class Searched(Protocol[H_co]):
    """A live layout, in either of its faces."""

    @property
    def plan(self) -> Plan:
        """What is planned by now."""
        ...

    def __getitem__(self, name: str) -> H_co:
        """The handle of a machine."""
        ...


class Search(Generic[Sought]):
    """Name to machine, of those whose roles are as sought."""

    def __init__(self, fits: Callable[[Iterable[Role], Sought], bool]) -> None:
        self._fits = fits

    @overload
    def __get__(
        self, instance: None, owner: type[Declaration]
    ) -> Callable[[Sought], Mapping[str, Machine]]: ...

    @overload
    def __get__(
        self, instance: Searched[H], owner: type[Any]
    ) -> Callable[[Sought], Mapping[str, H]]: ...

    def __get__(
        self, instance: Searched[H] | None, owner: type[Any]
    ) -> Callable[[Sought], Mapping[str, Machine] | Mapping[str, H]]:
        def search(sought: Sought) -> Mapping[str, Machine] | Mapping[str, H]:
            if instance is None:
                declared: Mapping[str, Machine] = owner.machines()
                return dict(self._fitting(declared.items(), lambda machine: machine.parts, sought))
            planned = instance.plan.machines.items()
            names = self._fitting(planned, lambda machine: machine.roles, sought)
            return {name: instance[name] for name, _ in names}

        return search

    def _fitting(
        self,
        machines: Iterable[tuple[str, Any]],
        roles_of: Callable[[Any], Iterable[Role]],
        sought: Sought,
    ) -> Iterator[tuple[str, Any]]:
        for name, machine in machines:
            if self._fits(roles_of(machine), sought):
                yield name, machine


OFFERING: Search[str] = Search(_offers)
WITH_ROLE: Search[type[Role]] = Search(_has)
