"""What providers may have to destroy: in the journal before it exists, and until it is gone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from pytest_carthage.errors import CarthageError, CreationError, RestoreError
from pytest_carthage.live.runs import Journals
from pytest_carthage.planning.plan import PlannedMachine
from pytest_carthage.provider import Identity, Provider
from pytest_carthage.providing import Providers
from pytest_carthage.state.sweeper import destroy_all

__all__ = ["Intents"]


class Intents:
    """The identities of one live layout, with all that is known of each."""

    def __init__(self, *, run: Journals, environment: str, providers: Providers) -> None:
        self._run = run
        self._environment = environment
        self._providers = providers
        #: by kind and name
        self._written: dict[tuple[str, str], Identity] = {}

    def identity(self, planned: PlannedMachine) -> Identity:
        """What a machine is called, with all that is known of it."""
        plain = Identity(
            kind=planned.target,
            run=self._run.id,
            environment=self._environment,
            name=planned.name,
            outside=self._providers[planned.target].traits.outside,
        )
        return self._written.get((planned.target, planned.name), plain)

    def recall(self, identities: Iterable[Identity]) -> None:
        """Take in what the journal has of an environment that stands."""
        for identity in identities:
            self._written[identity.kind, identity.name] = identity

    async def begin(self, planned: PlannedMachine, provider: Provider) -> Identity:
        """Have what is to be created in the journal, where it outlives the fabric.

        A thing of this name that could not be destroyed before is destroyed first.

        :raises CreationError: it still cannot.
        """
        if (former := self._written.get((planned.target, planned.name))) is not None:
            try:
                await self.destroy(planned)
            except Exception as error:
                raise CreationError(
                    f"machine {planned.name!r}: {former}, which had this name before, cannot be "
                    f"destroyed: {type(error).__name__}: {error}"
                ) from error
        identity = self.identity(planned)
        if identity.outside:
            await self.write(provider, identity)
        return identity

    async def write(self, provider: Provider, identity: Identity) -> None:
        """Write an identity to the journal; what was told of it before stays.

        :raises ValueError: it is not of this provider, run and environment.
        :raises FabricError: the supervisor refused it, or is gone.
        """
        for field, expected in (
            ("kind", provider.kind),
            ("run", self._run.id),
            ("environment", self._environment),
        ):
            if getattr(identity, field) != expected:
                raise ValueError(
                    f"target {provider.kind!r}: it intends {identity} with {field} "
                    f"{getattr(identity, field)!r}, which is {expected!r} here; "
                    "try: context.identity.with_detail(...)"
                )
        former = self._written.get((identity.kind, identity.name), identity)
        whole = former.with_detail(**dict(identity.detail))
        # of some targets only what is somewhere else outlives the fabric
        outlives = provider.traits.outside or identity.outside or former.outside
        whole = replace(whole, outside=outlives)
        # it is known here even if the journal cannot be told: the thing may exist
        self._written[identity.kind, identity.name] = whole
        await self._run.intend(whole)

    async def destroy(self, planned: PlannedMachine) -> None:
        """Have a machine's provider destroy what it has made of it.

        :raises RestoreError: it was given back, and not as it was.
        :raises Exception: what the provider says; it stays in the journal.
        """
        identity = self.identity(planned)
        spoiled: RestoreError | None = None
        try:
            await self._providers[identity.kind].destroy(identity)
        except RestoreError as error:
            spoiled = error
        if (identity.kind, identity.name) in self._written:
            await self._run.destroyed(identity)
            del self._written[identity.kind, identity.name]
        if spoiled is not None:
            raise spoiled

    async def destroy_outside(self) -> Mapping[Identity, Exception]:
        """Have providers destroy all that would outlive the fabric; returns what is left of it, and
        what was given back, and not as it was."""
        outside = [identity for identity in self._written.values() if identity.outside]
        outside.reverse()  # the newest first
        left = await destroy_all(outside, self._providers.__getitem__)
        for identity in outside:
            if identity not in left or isinstance(left[identity], RestoreError):
                with contextlib.suppress(CarthageError):  # then it is destroyed once more
                    await self._run.destroyed(identity)
                del self._written[identity.kind, identity.name]
        return left
