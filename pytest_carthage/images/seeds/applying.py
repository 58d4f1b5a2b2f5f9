"""The script that a disk's initrd runs of a seed: it is what knows where everything belongs."""

from __future__ import annotations

__all__ = ["apply_script"]

_SCRIPT = r"""
R=/root
has() {
    for path; do if [ -e "$R/$path" ] || [ -L "$R/$path" ]; then return 0; fi; done
    return 1
}
unpack() {
    [ -e "/seed/$1.tar" ] || return 0
    tar -x -f "/seed/$1.tar" -C "${2:-$R}" || fail "the seed's $1 cannot be unpacked"
}
with_systemd=
if has usr/lib/systemd/systemd lib/systemd/systemd; then with_systemd=yes; fi
# once: what the machine changes of it later is its own
if [ "$(cat $R/var/lib/pytest-carthage/seed 2> /dev/null)" != @ID@ ]; then
    if has etc/ssh; then rm -f $R/etc/ssh/ssh_host_*_key $R/etc/ssh/ssh_host_*_key.pub; fi
    unpack root
    if has etc/ssh; then
        unpack ssh
        if has usr/bin/ssh-keygen && ! has etc/ssh/ssh_host_ed25519_key; then
            mount -o bind /dev $R/dev
            chroot $R ssh-keygen -q -A
            umount $R/dev
        fi
    fi
    if [ -n "$with_systemd" ]; then
        unpack units
        if has sbin/ifup usr/sbin/ifup; then
            unpack ifupdown
        elif has usr/lib/systemd/systemd-networkd lib/systemd/systemd-networkd &&
            has usr/lib/systemd/systemd-udevd lib/systemd/systemd-udevd; then
            unpack networkd
        else
            unpack script
        fi
    fi
    mkdir -p $R/var/lib/pytest-carthage
    echo @ID@ > $R/var/lib/pytest-carthage/seed
    rm -f $R/var/lib/systemd/random-seed
fi
unpack run $R/run
# see sd_booted(3): it would be taken for one with systemd
[ -n "$with_systemd" ] || rm -rf $R/run/systemd
chmod 755 $R/run/carthage
cp /bin/busybox $R/run/carthage/busybox
ln -sf busybox $R/run/carthage/sh
# cards have their names before anybody looks at them
number=0
while read -r mac name; do
    for path in /sys/class/net/*; do
        if [ "$(cat "$path/address")" = "$mac" ] && [ "${path##*/}" != "$name" ]; then
            if [ -e "/sys/class/net/$name" ]; then
                ip link set "$name" name "seed$number"
                number=$((number + 1))
            fi
            ip link set "${path##*/}" name "$name"
        fi
    done
done < /seed/cards
"""


def apply_script(identity: str) -> str:
    """The script.

    :param identity: of the seed, as the machine remembers that it has it.
    """
    return _SCRIPT.replace("@ID@", identity)
