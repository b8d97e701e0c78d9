#!/bin/sh
# The tests talk to a real mosquitto and ask systemd what it thinks of the unit. Install both where this user
# may, strace, which makes a disk fail, libfaketime, which turns the clock, and iproute2; say so where not.
missing=
command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || missing="mosquitto"
command -v strace >/dev/null || missing="$missing strace"
command -v ip >/dev/null || missing="$missing iproute2"
[ -n "$(find /usr/lib -name libfaketimeMT.so.1 2>/dev/null)" ] || missing="$missing libfaketime"
command -v systemd-analyze >/dev/null || missing="$missing systemd"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2086 # a list
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends -y $missing >/dev/null && exit 0
fi
echo "not installed, and cannot be installed here: $missing: the tests that need it will be skipped" >&2
