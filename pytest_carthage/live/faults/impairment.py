"""How bad a link is, in the units that authors write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Impairment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Impairment:
    """How bad a link is; what is None is as good as it was."""

    loss_pct: float | None = None
    delay_ms: float | None = None
    jitter_ms: float | None = None
    rate_mbit: float | None = None
    duplicate_pct: float | None = None
    corrupt_pct: float | None = None

    def __post_init__(self) -> None:
        given = self.given
        if not given:
            raise ValueError(
                "nothing to impair; try: impair(loss_pct=1), or another of "
                + ", ".join(f"{name}=" for name in _NAMES)
            )
        for name, value in given.items():
            if not _is_number(value):
                raise ValueError(f"{name}={value!r} is not a number")
            if value < 0:
                raise ValueError(f"{name}={value!r} is negative")
            if name.endswith("_pct") and value > 100:
                raise ValueError(f"{name}={value!r} is more than 100 %")
            if name.endswith("_ms") and value > 3_600_000:
                raise ValueError(f"{name}={value!r} is more than an hour")
        if self.rate_mbit is not None and not 0.001 <= self.rate_mbit <= 1_000_000:
            raise ValueError(
                f"rate_mbit={self.rate_mbit!r} is not between 0.001 and 1000000; "
                "try: down() for a link that carries nothing"
            )

    @property
    def given(self) -> Mapping[str, float]:
        """What was asked for: name to value."""
        values = {name: getattr(self, name) for name in _NAMES}
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        return ", ".join(
            f"{name.partition('_')[0]} {value:g} {_UNITS[name.partition('_')[2]]}"
            for name, value in self.given.items()
        )

    def spec(self, seed: int) -> dict[str, float]:
        """As the fabric takes it: shares, seconds and bits per second."""
        return {
            "loss": (self.loss_pct or 0) / 100,
            "delay_s": (self.delay_ms or 0) / 1e3,
            "jitter_s": (self.jitter_ms or 0) / 1e3,
            "rate_bps": (self.rate_mbit or 0) * 1e6,
            "duplicate": (self.duplicate_pct or 0) / 100,
            "corrupt": (self.corrupt_pct or 0) / 100,
            "seed": seed,
        }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


_NAMES = ("loss_pct", "delay_ms", "jitter_ms", "rate_mbit", "duplicate_pct", "corrupt_pct")
_UNITS = {"pct": "%", "ms": "ms", "mbit": "Mbit/s"}
