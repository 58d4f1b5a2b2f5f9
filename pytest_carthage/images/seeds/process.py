"""A machine's main process, and the init of a machine that has no other."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["MainProcess", "init_script"]

_UNIT = """[Unit]
Description=Main process of the machine
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
ExecStart=@ARGV@
WorkingDirectory=@WORKDIR@
StandardOutput=journal+console
StandardError=inherit
Restart=@RESTART@
"""

_INIT = """#!/run/carthage/sh
# the first process of a machine whose image has no init
b=/run/carthage/busybox
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
say() { echo "carthage: $1" > /dev/console; }
$b mkdir -p /dev/pts /dev/shm
$b mount -t devpts -o mode=0620,gid=5,ptmxmode=0666 devpts /dev/pts
$b mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm
$b mount -t cgroup2 cgroup2 /sys/fs/cgroup
for pair in fd: stdin:/0 stdout:/1 stderr:/2; do
    $b ln -sfn "/proc/self/fd${pair#*:}" "/dev/${pair%%:*}"
done
$b hostname -F /etc/hostname
$b sh /usr/lib/pytest-carthage/network > /dev/console 2>&1
if [ -e /usr/lib/pytest-carthage/nat.nft ]; then
    nft -f /usr/lib/pytest-carthage/nat.nft > /dev/console 2>&1 || say "no translation of addresses"
fi
end() {
    trap '' TERM USR2 INT
    main=$(cat /run/carthage/main 2> /dev/null)
    [ -z "$main" ] || kill -@STOP@ "$main" 2> /dev/null
    tries=0
    while [ -n "$main" ] && kill -0 "$main" 2> /dev/null && [ $tries -lt 80 ]; do
        tries=$((tries + 1))
        $b usleep 100000
    done
    kill -TERM -1; $b usleep 200000; kill -KILL -1
    $b sync
    $b mount -o remount,ro /
    $b "$1" -f
}
trap 'end poweroff' USR2
trap 'end reboot' TERM INT
( while :; do $b sh /usr/lib/pytest-carthage/agent; done ) < /dev/null > /dev/null 2>&1 &
@MAIN@
while :; do wait; $b sleep 1; done
"""
_MAIN = """
run_main() {
    @ENV@
    cd @WORKDIR@ || exit 127
    exec @COMMAND@
}
keep() {
    times=0
    while :; do
        ( export HOME=@HOME@; run_main ) < /dev/null > /dev/console 2>&1 &
        echo $! > /run/carthage/main
        wait $!
        status=$?
        say "the main process ended with status $status"
        case @RESTART@ in
            always) ;;
            on-failure) [ $status -ne 0 ] || return 0 ;;
            *) return 0 ;;
        esac
        times=$((times + 1))
        [ @TIMES@ -eq 0 ] || [ $times -le @TIMES@ ] || return 0
        $b usleep $((times < 10 ? times * 100000 : 1000000))
    done
}
keep &
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MainProcess:
    """What a machine is for."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    #: who runs it; empty: root
    user: str = ""
    workdir: str = "/"
    #: as ``on-failure:3``
    restart: str = "no"
    #: name of the signal that asks it to end
    stop_signal: str = "SIGTERM"
    #: the same command as our init runs it, with the user looked up, and the user's home
    command: str = ""
    home: str = "/root"

    def unit(self) -> str:
        """The unit by which systemd runs it, see systemd.service(5)."""
        restart, _, times = self.restart.partition(":")
        restart = {"unless-stopped": "always"}.get(restart, restart)
        lines = _UNIT.replace("@ARGV@", _exec_line(self.argv)).replace("@RESTART@", restart)
        lines = lines.replace("@WORKDIR@", self.workdir)
        if times:
            lines = lines.replace("[Service]", f"StartLimitBurst={times}\n\n[Service]", 1)
        if self.user:
            user, _, group = self.user.partition(":")
            lines += f"User={user}\n" + (f"Group={group}\n" if group else "")
        lines += f"KillSignal={self.stop_signal}\n"
        for name, value in self.env.items():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            lines += f'Environment="{name}={escaped.replace("%", "%%")}"\n'
        return lines


def _exec_line(argv: Sequence[str]) -> str:
    words = []
    for word in argv:
        plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        words.append('"' + plain.replace("%", "%%").replace("$", "$$") + '"')
    return " ".join(words)


def init_script(main: MainProcess | None) -> str:
    """The first process of a machine whose image has none: a script of busybox's shell."""
    stop = main.stop_signal.removeprefix("SIG") if main is not None else "TERM"
    return _INIT.replace("@STOP@", stop).replace("@MAIN@", "" if main is None else _main(main))


def _main(main: MainProcess) -> str:
    restart, _, times = main.restart.partition(":")
    restart = {"unless-stopped": "always"}.get(restart, restart)
    script = _MAIN.replace("@RESTART@", restart).replace("@TIMES@", times or "0")
    env = "; ".join(f"export {name}={shlex.quote(value)}" for name, value in main.env.items())
    for place, value in (
        ("@HOME@", shlex.quote(main.home)),
        ("@WORKDIR@", shlex.quote(main.workdir)),
        ("@ENV@", env or ":"),
        ("@COMMAND@", main.command or shlex.join(main.argv)),
    ):
        script = script.replace(place, value, 1)
    return script
