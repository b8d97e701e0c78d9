#!/bin/sh
# Install, upgrade or roll back the Mekiki agent as a systemd service. Run as root:
#
#   deploy/install.sh                      install, or upgrade, from this checkout
#   deploy/install.sh --profile gpu,torch  with other profiles of the README than `cpu`
#   deploy/install.sh --rollback           back to the version that ran before
#
# Each version has an environment of its own in /opt/mekiki; the link `current` names the one that runs,
# `previous` the one before. A version that does not accept the config is not switched to; one that does not
# come up is switched back, in both directions. Config, secrets and data are never touched: a version that is
# gone back to finds the data of now. When a version is left, its unit and a copy of the config are kept in
# /opt/mekiki/<version>/kept, for root alone; the unit comes back with it, the config does not by itself.
#
#   --root DIR     install into DIR instead of /, to try it: there is no user and nothing is started
#   --python FILE  the interpreter, 3.11 or newer

set -eu

profile=cpu
root=
python=${PYTHON:-python3}
rollback=no

die() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}

while [ $# -gt 0 ]; do
    case $1 in
        --rollback) rollback=yes ;;
        --profile | --root | --python)
            [ $# -ge 2 ] || die "$1 needs a value" 64
            case $1 in
                --profile) profile=$2 ;;
                --root) root=${2%/} ;;
                --python) python=$2 ;;
            esac
            shift
            ;;
        *) die "what is $1? See the first lines of this file" 64 ;;
    esac
    shift
done

source=$(cd "$(dirname "$0")/.." && pwd)
opt=$root/opt/mekiki
etc=$root/etc/mekiki
live=no
[ -z "$root" ] && [ -d /run/systemd/system ] && live=yes
[ -n "$root" ] || [ "$(id -u)" = 0 ] || die "run it as root, or with --root DIR" 77

# In one step: whoever looks sees the old link or the new one.
point() {
    ln -s "$2" "$opt/.$1.new"
    mv -T "$opt/.$1.new" "$opt/$1"
}

units=$root/etc/systemd/system
torch_free=mekiki.service.d/10-without-torch.conf

# Keep what the version that is left ran with.
keep() {
    install -d -m 0700 "$opt/$1/kept"
    cp -p "$etc/config.yaml" "$units/mekiki.service" "$opt/$1/kept/"
    rm -f "$opt/$1/kept/10-without-torch.conf"
    [ ! -e "$units/$torch_free" ] || cp -p "$units/$torch_free" "$opt/$1/kept/"
}

# Install the unit that a version was left with.
unit_of() {
    [ -d "$opt/$1/kept" ] || return 0
    install -m 0644 "$opt/$1/kept/mekiki.service" "$units/"
    rm -f "$units/$torch_free"
    [ ! -e "$opt/$1/kept/10-without-torch.conf" ] ||
        install -D -m 0644 "$opt/$1/kept/10-without-torch.conf" "$units/$torch_free"
}

restart() {
    [ $live = yes ] || return 0
    systemctl daemon-reload
    systemctl restart mekiki.service # Type=notify: waits until it inspects
}

# Whether the version in a folder understands the config. What is not there now is no mistake of it: secrets are
# there while the service runs, a disk may be away. Release 0.1.0 does not know that, so its lines are sorted here.
accepts() {
    code=0
    said=$("$1/bin/mekiki" check --installed --config "$etc/config.yaml" 2>&1) || code=$?
    if [ $code = 64 ]; then
        code=0
        said=$("$1/bin/mekiki" check --config "$etc/config.yaml" 2>&1) || code=$?
        if [ $code = 78 ]; then
            said=$(echo "$said" | grep -v -e ': no such file:' -e ': no such folder:' -e ': [$]{[a-z]*:') || code=0
        fi
    fi
    echo "$said" >&2
    return $code
}

exchange() {
    now=$(readlink "$opt/current")
    before=$(readlink "$opt/previous")
    point current "$before"
    point previous "$now"
    unit_of "$before"
}

if [ $rollback = yes ]; then
    [ -L "$opt/previous" ] || die "there is no version to go back to"
    from=$(readlink "$opt/current")
    to=$(readlink "$opt/previous")
    # A setting that is newer than that version would stop the line there.
    accepts "$opt/$to" ||
        die "$to does not accept $etc/config.yaml; $from goes on running. Take out what $to does not know, \
or put back what it ran with: sudo cp $opt/$to/kept/config.yaml $etc/config.yaml" 78
    keep "$from"
    exchange
    if ! restart; then
        exchange
        restart || die "neither $to nor $from comes up: journalctl -u mekiki"
        die "$to does not come up with the data of now (journalctl -u mekiki): $from runs again"
    fi
    echo "mekiki: back to $to; $from is kept: the same command goes there again"
    exit 0
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 or newer is needed: --python FILE"

# The service: its user, its folders, its cameras.
install -d -m 0755 "$opt" "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d" "$root/etc/udev/rules.d" \
    "$root/etc/systemd/system"
install -m 0644 "$source/deploy/mekiki.sysusers.conf" "$root/usr/lib/sysusers.d/mekiki.conf"
install -m 0644 "$source/deploy/mekiki.tmpfiles.conf" "$root/usr/lib/tmpfiles.d/mekiki.conf"
install -m 0644 "$source/deploy/70-mekiki-cameras.rules" "$root/etc/udev/rules.d/"
if [ -z "$root" ]; then
    systemd-sysusers mekiki.conf
    systemd-tmpfiles --create mekiki.conf
    udevadm control --reload 2>/dev/null || true # no udev in a container
fi

# The environment, beside the one that runs.
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$source/agent/__init__.py")
name=$version-$(date -u +%Y%m%dT%H%M%SZ)
new=$opt/$name
trap 'rm -rf "$new"' EXIT
trap 'exit 130' INT TERM
"$python" -m venv "$new"
"$new/bin/python" -m pip install --quiet --disable-pip-version-check -c "$source/constraints.txt" "${source}[$profile]"
install -d "$new/share"
install -m 0644 "$source/README.md" "$source/CHANGELOG.md" "$new/share/"

if [ ! -e "$etc/config.yaml" ]; then
    install -d -m 0750 "$etc"
    sed 's|^  data_dir: data  |  data_dir: /var/lib/mekiki  |' "$source/config.yaml" > "$etc/config.yaml"
    chmod 0640 "$etc/config.yaml"
    [ -n "$root" ] || chown root:mekiki "$etc" "$etc/config.yaml"
fi
accepts "$new" ||
    die "version $version does not accept $etc/config.yaml; what ran goes on running" 78

old=
before=
[ -L "$opt/current" ] && old=$(readlink "$opt/current")
[ -L "$opt/previous" ] && before=$(readlink "$opt/previous")
[ -z "$old" ] || keep "$old"

install -m 0644 "$source/deploy/mekiki.service" "$units/"
case ,$profile, in
    *,torch,* | *,gpu,* | *,openvino,*) rm -f "$units/$torch_free" ;;
    *) install -D -m 0644 "$source/deploy/10-without-torch.conf" "$units/$torch_free" ;;
esac

trap - EXIT
point current "$name"
[ -z "$old" ] || point previous "$old"
if [ $live = yes ] && ! { systemctl enable --quiet mekiki.service && restart; }; then
    [ -n "$old" ] || die "it does not come up: journalctl -u mekiki"
    point current "$old"
    unit_of "$old"
    rm -f "$opt/previous"
    [ -z "$before" ] || point previous "$before"
    rm -rf "${opt:?}/$name"
    restart || die "neither $name nor $old comes up: journalctl -u mekiki"
    die "$name does not come up (journalctl -u mekiki): $old runs again"
fi

# Two versions are kept; what was before them goes.
if [ -n "$old" ] && [ -n "$before" ] && [ "$before" != "$old" ]; then
    rm -rf "${opt:?}/$before"
fi
echo "mekiki: $name is installed${old:+, $old is kept: install.sh --rollback}"
