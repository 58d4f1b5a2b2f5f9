"""Options of Ansible's command line, as an author gives them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypedDict

__all__ = ["AnsibleOptions", "ExtraVars", "Paths", "PlaybookOptions", "Words"]

#: one of something, or several
Words: TypeAlias = str | Sequence[str] | None
Paths: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
#: variables, a file of them as in ``"@prod.yml"``, or several of both: later ones win
ExtraVars: TypeAlias = (
    Mapping[str, object]
    | str
    | os.PathLike[str]
    | Sequence[Mapping[str, object] | str | os.PathLike[str]]
    | None
)


class AnsibleOptions(TypedDict, total=False):
    """What may be said of a run of Ansible; each is the option of that name of its programs, but
    ``environment``, ``keep_facts`` and ``outside``.

    Relative paths are of the folder of the file whose code gives them. A wrong value is an
    :class:`.AnsibleError` before anything starts.
    """

    #: variables above all others: what JSON can hold, or files (``"@prod.yml"``)
    extra_vars: ExtraVars
    #: machines and groups, in Ansible's pattern language or as a list
    limit: Words
    #: predict changes only
    check: bool
    #: show how files change
    diff: bool
    #: number of times that ``-v`` is said, up to 6
    verbosity: int
    #: machines that are worked on at a time; by default as many as there are, up to 16
    forks: int | None
    #: forget the facts that are kept
    flush_cache: bool
    #: gather facts once for all plays and runs with this option, until a machine has changed from
    #: one run to the next; plays do not see in facts what plays of the same run change
    keep_facts: bool
    #: ``"prod@vault-password.txt"``; the label may be left out
    vault_ids: Words
    vault_password_file: Paths
    #: name of the environment variable that holds the password of the vault
    vault_password_env: str | None
    #: name of the one that holds the password for ``become``
    become_password_env: str | None
    #: name of the one that holds the password of connections
    connection_password_env: str | None
    become: bool
    become_user: str | None
    become_method: str | None
    #: whom tasks run as, where no variable says so
    user: str | None
    #: folders of modules
    module_path: Paths
    #: inventory sources beside those of the tree's ``ansible.cfg``
    inventory_extra: Paths
    #: environment variables of Ansible itself
    environment: Mapping[str, str] | None
    #: ``"host:port"`` of what Ansible itself, on ``localhost``, reaches of the world by that name
    #: while it runs, or the path of a socket of the host: each is a gate; by default it reaches the
    #: layout alone
    outside: Words


class PlaybookOptions(AnsibleOptions, total=False):
    """What may be said of a run of playbooks, beside what every run of Ansible takes."""

    #: only what has one of these tags
    tags: Words
    #: nothing of what has one of these tags
    skip_tags: Words
    #: name of the first task that is run
    start_at_task: str | None
    #: run handlers of machines where a task failed, too
    force_handlers: bool
