#!/bin/sh
# The tests talk to a real mosquitto, ask systemd what it thinks of the unit, and let somebody else's library read
# our Sparkplug. Install these where this user may, strace, which makes a disk fail, libfaketime, which turns the
# clock, and iproute2; say so where not.
missing=
command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || missing="mosquitto"
command -v strace >/dev/null || missing="$missing strace"
command -v ip >/dev/null || missing="$missing iproute2"
[ -n "$(find /usr/lib -name libfaketimeMT.so.1 2>/dev/null)" ] || missing="$missing libfaketime"
command -v systemd-analyze >/dev/null || missing="$missing systemd"
command -v npm >/dev/null || missing="$missing npm"
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2086 # a list
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends -y $missing >/dev/null && missing=
fi
[ -z "$missing" ] || echo "not installed, and cannot be installed here: $missing: the tests that need it will be skipped" >&2

# tests/system/agent/sparkplug/test_sparkplug_payload.py says which version.
peer=$(sed -n 's/^PEER = "\(.*\)"$/\1/p' "$(dirname "$0")/system/agent/sparkplug/test_sparkplug_payload.py")
cache=${MEKIKI_TEST_CACHE:-$HOME/.cache/mekiki-tests}/$peer
if command -v npm >/dev/null && [ ! -d "$cache/node_modules/sparkplug-payload" ]; then
    mkdir -p "$cache"
    npm install --prefix "$cache" --ignore-scripts --no-audit --no-fund --silent "$peer" ||
        echo "npm: $peer cannot be had here: the test that needs it will be skipped" >&2
fi
exit 0
