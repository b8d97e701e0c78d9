#!/bin/sh
# The tests talk to a real mosquitto. Install it where this user may; say so where not.
if command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ]; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends -y mosquitto >/dev/null && exit 0
fi
echo "mosquitto is not installed and cannot be installed here: the tests marked broker will be skipped" >&2
