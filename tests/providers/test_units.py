"""Units of systemd in a system container: what their options promise is so."""

from __future__ import annotations

import pytest

from pytest_carthage.live.machines.machine import MachineHandle
from tests.providers.test_system_containers import Two, build, two

__all__ = ["build", "two"]

pytestmark = pytest.mark.real

_QUOTA = (
    "cat /sys/fs/cgroup/cpu$(grep -w cpu /proc/self/cgroup | cut -d: -f3)/cpu.cfs_quota_us"
    " /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup | tail -1)/cpu.max 2>/dev/null"
)
_GROUPS = "G=/sys/fs/cgroup; test ! -d $G/unified || G=$G/unified"
_BOUND = "B=$(awk '/CapBnd/ {print $2}' /proc/self/status)"
#: every machine has one filter of the fabric's
_FILTERED = "test $(awk '/Seccomp_filters/ {print $2}' /proc/self/status) -gt 1"
#: options of a unit, and what is true in it only if they are applied
OPTIONS = {
    "ProtectSystem=strict": "! touch /etc/x /srv/x",
    "ProtectSystem=full": "! touch /etc/x && touch /srv/x",
    "ProtectSystem=yes": "! touch /usr/x && touch /etc/x",
    "ProtectSystem=strict ReadWritePaths=/srv": "touch /srv/x && ! touch /etc/x",
    "ReadOnlyPaths=/srv": "! touch /srv/x",
    "InaccessiblePaths=/etc/passwd": "! test -s /etc/passwd",
    "NoExecPaths=/usr/bin/ls": "! ls",
    "TemporaryFileSystem=/var": 'test -z "$(ls /var)"',
    "BindPaths=/etc:/mnt": "test -e /mnt/passwd",
    "BindReadOnlyPaths=/etc:/mnt": "test -e /mnt/passwd && ! touch /mnt/x",
    "PrivateTmp=yes": "! test -e /tmp/outside",
    "PrivateDevices=yes": "! test -e /dev/fuse && test -c /dev/null",
    "PrivateNetwork=yes": 'test "$(ip -br link | wc -l)" = 1',
    "NetworkNamespacePath=/run/netns/apart": 'test "$(ip -br link | wc -l)" = 1',
    "PrivateUsers=yes": "test \"$(awk '{print $3}' /proc/self/uid_map | head -1)\" = 1",
    "PrivateIPC=yes": "test $(readlink /proc/self/ns/ipc) != $OUTER_IPC",
    "PrivateMounts=yes": "test $(readlink /proc/self/ns/mnt) != $OUTER_MNT",
    "ProtectHome=yes": 'test -z "$(ls -A /root)"',
    "ProtectHome=tmpfs": 'test -z "$(ls -A /root)" && touch /root/y',
    "ProtectHome=read-only": "! touch /root/y && test -e /root/x",
    "ProtectKernelTunables=yes": "! sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward'",
    "ProtectKernelModules=yes": _FILTERED,
    "ProtectKernelLogs=yes": f"{_BOUND}; test $((0x$B >> 34 & 1)) = 0",
    "ProtectControlGroups=yes": f"{_GROUPS}; ! mkdir $G/x || ! rmdir $G/x",
    "ProtectClock=yes": _FILTERED,
    "ProtectHostname=yes": "! hostname other",
    "ProtectProc=invisible User=nobody": "! test -e /proc/1",
    "ProcSubset=pid": "! test -e /proc/meminfo",
    "NoNewPrivileges=yes": "grep -q 'NoNewPrivs:.1' /proc/self/status",
    "CapabilityBoundingSet=CAP_CHOWN": "grep -q 'CapBnd:.0000000000000001' /proc/self/status",
    "AmbientCapabilities=CAP_CHOWN User=nobody": "grep -q 'CapAmb:.0*1' /proc/self/status",
    "SystemCallFilter=~@chown SystemCallErrorNumber=EPERM": "! chown nobody /srv/x",
    "SystemCallArchitectures=native": _FILTERED,
    "RestrictNamespaces=yes": "! unshare -m true",
    "RestrictAddressFamilies=AF_UNIX": "! python3 -c 'import _socket; _socket.socket(2, 1)'",
    "RestrictSUIDSGID=yes": "! chmod u+s /srv/x",
    "RestrictRealtime=yes": _FILTERED,
    "LockPersonality=yes": "! setarch -R true",
    "MemoryDenyWriteExecute=yes": _FILTERED,
    "DynamicUser=yes StateDirectory=apart": "touch $STATE_DIRECTORY/x && test $(id -u) -ge 61184",
    "User=nobody Group=tty": 'test "$(id -un):$(id -gn)" = nobody:tty',
    "SupplementaryGroups=tty User=nobody": "id -Gn | grep -qw tty",
    "RuntimeDirectory=apart RuntimeDirectoryMode=0710": 'test "$(stat -c %a /run/apart)" = 710',
    "CacheDirectory=apart": 'test -d "$CACHE_DIRECTORY"',
    "LogsDirectory=apart": 'test -d "$LOGS_DIRECTORY"',
    "ConfigurationDirectory=apart": 'test -d "$CONFIGURATION_DIRECTORY"',
    "WorkingDirectory=/srv": 'test "$(pwd)" = /srv',
    "UMask=0077": 'test "$(umask)" = 0077',
    "LimitNOFILE=123": 'test "$(ulimit -n)" = 123',
    "LimitNPROC=99": "grep -q 'Max processes *99 ' /proc/self/limits",
    "MemoryMax=20M": "! python3 -c 'bytearray(100 << 20)'",
    "TasksMax=2": "! sh -c 'sleep 0.1 & sleep 0.1 & sleep 0.1 & wait'",
    "CPUQuota=10%": f"{_QUOTA} | grep -q '^10000'",
    "OOMScoreAdjust=500": 'test "$(cat /proc/self/oom_score_adj)" = 500',
    "Nice=5": 'test "$(nice)" = 5',
    "Environment=A=b UnsetEnvironment=LANG": 'test "$A" = b && test -z "$LANG"',
    "RootDirectory=/srv/root BindReadOnlyPaths=/usr MountAPIVFS=yes": "! test -e /etc/passwd",
}


@pytest.fixture(scope="module")
def booted(two: Two) -> MachineHandle:
    machine: MachineHandle = two.booted
    machine.run("touch /tmp/outside /root/x /srv/x; mkdir -p /srv/root; ip netns add apart")
    machine.run("ln -s usr/bin usr/lib usr/lib64 /srv/root; sysctl -qw net.ipv4.ip_forward=1")
    return machine


@pytest.mark.parametrize("options", OPTIONS)
def test_option_is_applied(booted: MachineHandle, options: str) -> None:
    ipc, mnt = booted.run("readlink /proc/1/ns/ipc /proc/1/ns/mnt").lines
    argv = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect"]
    argv += [f"--setenv=OUTER_IPC={ipc}", f"--setenv=OUTER_MNT={mnt}"]
    shell = ["/bin/sh", "-c", OPTIONS[options]]
    given = [word for option in options.split() for word in ("-p", option)]
    done = booted.run([*argv, *given, *shell], check=False)
    assert done.ok, done.stdout + done.stderr
    # else it would prove nothing
    assert not booted.run([*argv, *shell], check=False).ok
