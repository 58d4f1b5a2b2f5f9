"""A machine as the fabric knows it: its agent, its switch, and its links in and out of service."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.fabric import guest, processes, record, shares, shortage
from pytest_carthage.fabric.contact import Contact
from pytest_carthage.fabric.container import groups
from pytest_carthage.fabric.container.ending import Ending, last_line, words
from pytest_carthage.fabric.container.voice import Voice
from pytest_carthage.fabric.delivery import Delivery
from pytest_carthage.fabric.news import News
from pytest_carthage.fabric.place import Place
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.steps import Steps, Turn, Wait, readable

if TYPE_CHECKING:
    from pytest_carthage.fabric.callers import Callers
    from pytest_carthage.fabric.namespaces import Home
    from pytest_carthage.fabric.shares import Shares
    from pytest_carthage.fabric.spec import MachineSpec
    from pytest_carthage.fabric.wire.server import Server

_READY_S = 30.0
#: asks systemd to halt in good order, see systemd(1)
_HALT = signal.SIGRTMIN + 3
#: the longest that the kernel may take to end all that is in a PID namespace
_END_S = 10.0
#: what systemd becomes to go off: its name, as the kernel cuts it off
_SHUTDOWN = "systemd-shutdow"


def _name_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""


class Machine:
    """One machine; what changes it is done by one at a time, in :attr:`turn`."""

    def __init__(self, spec: MachineSpec, home: Home, server: Server) -> None:
        self.spec = spec
        self.name = spec["name"]
        self.turn = Turn()
        #: process id of its agent in the fabric's PID namespace, while there is one
        self.pid: int | None = None
        #: where it lives, kept while it is stopped
        self.place = Place(spec, home)
        #: whether it was removed
        self.is_gone = False
        #: whether its agent is started only when somebody wants something of it
        self.is_asleep = False
        #: those who have come while it was asleep; None: nobody has
        self.callers: Callers | None = None
        #: whether a deputy outside of the fabric answers for it
        self.has_deputy = False
        #: how it ended, which nobody here had asked for; None: it has not
        self.ending: Ending | None = None
        #: whether it is ended by us
        self.is_expected_to_end = False
        #: its ends, for those who want to know
        self.news = News()
        #: what makes it a system container
        self.root = spec.get("root")
        #: what somebody else has made, and our agent is a guest in
        self._container: guest.Container | None = None
        #: process id of its agent, as the machine counts
        self._inner: int | None = None
        #: processes that were killed for want of memory by when that was last looked at
        self._oom_kills = 0
        self._is_new = True
        self._voice = Voice(spec["log"], server)
        #: what tells its programs of what it has of the host
        self._shares: Shares | None = None
        self._home = home
        self._server = server
        self._contact = Contact(self.name, server)
        #: the birth of its first process, which is about to come
        self._delivery: Delivery | None = None

    # a machine of namespaces

    def prepare(self) -> None:
        """Get all that :meth:`fork` needs."""
        self._delivery = Delivery(self.spec, self._contact.begin())

    def fork(self, *, hosts: str, template: str | None) -> None:
        """Fork its first process, into its network and a new PID namespace."""
        assert self._delivery is not None
        delivery, self._delivery = self._delivery, None
        self.ending = None
        self.news.forget()
        self.is_expected_to_end = False
        self._shares = shares.begin(self.spec, self._server)
        try:
            self.pid = delivery.fork(
                self.place,
                self._home,
                hosts=hosts,
                template=template,
                is_new=self._is_new,
                own=self._shares,
            )
        finally:
            delivery.close()

    @property
    def is_mortal(self) -> bool:
        """Whether it is ours, and somebody wants to know when something of it ends by itself."""
        is_ours = self.spec["kind"] == "process"
        return is_ours and bool(self.root is not None or self.spec["command"])

    def until_ready(self, *, is_joined: bool = False) -> Steps[dict[str, Any]]:
        """Wait for the word of its agent that it is there; returns that.

        :raises OSError: it could not become one, in its own words.
        """
        while True:
            if not (yield from readable(self._contact.fileno(), _READY_S)):
                raise OSError(f"no word of its agent within {_READY_S:g} s")
            try:
                word, fds = self._contact.receive()
            except frames.Closed as error:
                if not is_joined and self._voice.is_init:  # closed by the exec of its init
                    return (yield from self._join_init())
                raise OSError(f"its agent ended before it was ready ({error})") from error
            if fds and self.root is not None and self._voice.take(str(word.get("step")), fds[0]):
                continue
            frames.close_all(fds)
            if word.get("step") == "mounted" and self._shares is not None:
                self._shares.listen()
                continue
            if word.get("step") != "ready":
                raise OSError(str(word.get("error", "its agent said nothing that makes sense")))
            self._is_new = False
            self._inner = word.get("pid")
            if self.is_mortal or self._container is not None:
                self._contact.listen(self._hear)
            return word

    def _hear(self) -> None:
        """Take in what its agent says by itself, or that it is no more."""
        try:
            word, fds = self._contact.receive()
        except BlockingIOError:
            return
        except OSError:
            self._contact.close()
            if self._voice.is_init or self._container is not None:
                self._server.work(self.turn.hold(self._join_again(clock.unix_s())))
            return
        frames.close_all(fds)
        if word.get("step") == "main":
            last = last_line(self.spec["log"])
            status, again_s = word["status"], word["again_s"]
            is_oom = self.is_oom(status)
            self.news.tell(
                Ending(
                    how="main",
                    status=status,
                    at_s=word["at_s"],
                    last=last,
                    again_s=again_s,
                    is_oom=is_oom,
                )
            )
        elif word.get("step") == "again":
            self.news.tell(Ending(how="again", at_s=word["at_s"], restarts=word["restarts"]))

    def oom_kills(self) -> int:
        """How many processes in it the kernel has killed for want of memory, as far as it tells."""
        group = self.spec["control_group"]
        if self._container is not None:
            folder = self._container.memory_group
        else:
            folder = shortage.folder(group) if group else ""
        self._oom_kills = shortage.kills(folder) if folder else 0
        return self._oom_kills

    def is_oom(self, status: int) -> bool:
        """Whether what has ended with this status was killed for want of memory just now.

        :param status: the negative number of a signal, or what a shell makes of that.
        """
        if status not in (-signal.SIGKILL, 128 + signal.SIGKILL):
            return False
        before = self._oom_kills
        try:
            return self.oom_kills() > before
        except OSError:
            return False

    def _join_again(self, at_s: float) -> Steps[None]:
        """Have another agent join its init, since something in the machine has ended the last.

        :param at_s: when that has hung up.
        """
        if self.is_expected_to_end or self._contact.is_open:
            return
        if self._container is not None:
            if self.pid is not None:  # else it was faster than its hanging up
                self.note_end((yield Wait(pid=self.pid, limit_s=_END_S)))
            if self._container.is_ending():
                before = self._oom_kills
                is_oom = self.oom_kills() > before  # first: its group goes with it
                yield from self._container.until_ended(_END_S)
                self.news.tell(Ending(how="over", at_s=at_s, is_oom=is_oom))
                return
        if self._container is None:
            if self.pid is None or _name_of(self.pid).startswith(_SHUTDOWN):
                return  # which ends all that there is
            moment = time.strftime("%H:%M:%S", time.gmtime(at_s))
            seen = guest.fate(self.pid, self._inner or 0)
            record.write(f"machine {self.name!r}: its agent has hung up at {moment}; {seen}")
        last = ""
        try:
            yield from self._join_init()
        except OSError as error:
            self._contact.close()
            last = f"no other one could be started: {error}"
        self.news.tell(Ending(how="agent", status=int(bool(last)), at_s=at_s, last=last))

    def note_end(self, status: int | None) -> None:
        """Take in that the child which was its agent has ended; nobody had asked for it.

        :param status: of wait(2); None: it has hung up, and does not end.
        """
        self.pid = None
        who = "agent" if self._container is not None else "first process"
        how = "hung up, and does not end" if status is None else f"ended {words(status)}"
        record.write(f"machine {self.name!r}: its {who} has {how}")

    def _join_init(self) -> Steps[dict[str, Any]]:
        """Have an agent join an init that has just been started; returns its word."""
        if self._container is not None:
            self.pid = guest.bear(self._container.message, self._contact, self._home)
        elif self.pid is None:
            raise OSError("its init ended at once")
        else:
            self._is_new = False
            guest.bear(guest.beside(self.pid, self.spec), self._contact, self._home)
        return (yield from self.until_ready(is_joined=True))

    def booted(self, limit_s: float) -> Steps[bool]:
        """Wait until its init has started all that it should; returns whether it has, in time."""
        return (yield from self._voice.booted(limit_s))

    # a machine that somebody else has made

    def attach(self, message: frames.Message) -> Steps[dict[str, Any]]:
        """Have an agent enter the container whose first process is ``pid``; returns its word.

        :raises OSError: it cannot.
        """
        yield from self.end()
        try:
            self._container = guest.Container(message)
            word = yield from self._join_init()
            self.is_expected_to_end = False
            return word
        except OSError:
            yield from self.end()
            raise

    # a machine that is elsewhere

    def appoint(self, control: int) -> None:
        """Have a deputy answer for it, behind the other end of this descriptor; it stays yours.

        :raises ValueError: it has an agent of its own.
        """
        if self.pid is not None:
            raise ValueError(f"machine {self.name!r} has an agent of its own")
        self._contact.appoint(control)
        self.has_deputy = True

    # all of them

    def hand_over(self, connection: int, request: int | None) -> None:
        """Give a client's connection to the agent.

        :param request: that with which it came, to be answered; None: it is.
        :raises OSError: it takes none.
        :raises LookupError: there is no agent.
        """
        if self.pid is None and not self.has_deputy:
            raise LookupError(f"machine {self.name!r} is stopped")
        self._contact.hand_over(connection, request)

    def end(self, timeout_s: float = 0.0) -> Steps[None]:
        """End its agent, and with a first process of its own all that runs in it.

        :param timeout_s: the main process is asked to end before, and has this time for it.
        :raises OSError: they do not end.
        """
        self.is_expected_to_end = True
        self.is_asleep = False
        if self.callers is not None:
            self.callers.hang_up()
        if self.pid is not None:
            is_over = yield from processes.end(
                self.pid, lambda process: self._ask_to_end(process, timeout_s), _END_S
            )
            if not is_over:
                text = f"process {self.pid} does not end within {_END_S:g} s"
                raise OSError(f"machine {self.name!r}: {text}")
            self.pid = None
        self.let_go()

    def tell_end(self, ending: Ending) -> None:
        """Tell who wants to know that it has ended by itself."""
        self.ending = ending
        self.news.tell(ending)

    def let_go(self) -> None:
        """Let go of what was the first process's, which has ended."""
        self._contact.close()
        self.has_deputy = False
        self._voice.close()
        if self._shares is not None:
            self._shares.close()
            self._shares = None
        if self._container is not None:
            self._container.close()
            self._container = None
        if self.root is not None:
            groups.remove(self.spec["control_group"])
        if self._delivery is not None:
            self._delivery.close()
            self._delivery = None

    def _ask_to_end(self, process: int, timeout_s: float) -> Steps[None]:
        """Ask for an end in good order, and give it time.

        :param process: descriptor of the first process.
        """
        if timeout_s > 0 and self.root is not None and self.root["init"]:
            signal.pidfd_send_signal(process, _HALT)
            yield from readable(process, timeout_s)
        elif timeout_s > 0 and self._contact.is_open and self.spec["command"]:
            try:
                self._contact.tell({"op": "terminate", "timeout_s": timeout_s})
            except OSError:
                return  # it takes nothing any more
            yield from readable(process, timeout_s + 1)
