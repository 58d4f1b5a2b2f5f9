"""What Ansible's environment variables and a tree's ``ansible.cfg`` set."""

from __future__ import annotations

import configparser
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Settings"]


class Settings:
    """Settings by name; as in Ansible the environment wins over the file.

    :param config: the tree's ``ansible.cfg``.
    """

    def __init__(self, config: Path | None, env: Mapping[str, str]) -> None:
        self._folder = Path() if config is None else config.parent
        self._env = env
        self._file = configparser.ConfigParser(
            inline_comment_prefixes=(";",), interpolation=None, strict=False
        )
        if config is not None:
            # a file that is wrong is for Ansible to complain of
            with suppress(configparser.Error, OSError, UnicodeDecodeError):
                self._file.read(config, encoding="utf-8")

    def get(self, variable: str, key: str, section: str = "defaults") -> str | None:
        """A setting's text; None: neither sets it."""
        given = self._env.get(variable)
        return given if given is not None else self._file.get(section, key, fallback=None)

    def paths(self, variable: str, key: str) -> str | None:
        """A setting of paths with colons between them, those of the file from its folder on."""
        if variable in self._env:
            return self._env[variable]
        listed = self._file.get("defaults", key, fallback=None)
        if listed is None:
            return None
        return ":".join(str(self._beside(path)) for path in listed.split(":") if path)

    @property
    def inventory(self) -> tuple[Path, ...]:
        """The inventory sources that are set; the one of the whole computer is none of them."""
        given = self._env.get("ANSIBLE_INVENTORY")
        listed = self.get("ANSIBLE_INVENTORY", "inventory") or ""
        # its list of hosts, "a,b,", is none of paths
        paths = [path for path in re.split(r"\s*,\s*", listed.strip()) if path]
        folder = Path().absolute() if given is not None else self._folder
        return tuple(self._beside(path, folder) for path in paths)

    @property
    def interpreter(self) -> str | None:
        """The Python that modules are to run with."""
        return self.get("ANSIBLE_PYTHON_INTERPRETER", "interpreter_python")

    def _beside(self, path: str, folder: Path | None = None) -> Path:
        return (folder or self._folder) / Path(os.path.expandvars(path)).expanduser()
