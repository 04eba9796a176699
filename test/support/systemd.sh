#!/bin/sh
# A real systemd as the first process of namespaces of its own (processes, mounts, control groups, host name), as in
# systemd-nspawn: it sees the machine's files read-only, its own /run, /tmp and units, and touches nothing else.
#
#   systemd.sh DIRECTORY PROJECT
#
# DIRECTORY holds `units` (what /etc/systemd/system begins with), `lib` (what /var/lib/ebb is) and `prepare` (commands,
# before systemd starts); systemd sees it as /run/test.
# Prints "namespaces are ready" before `prepare` and "first process PID" right before systemd starts. Ends with systemd.
set -eu

if [ "${1:-}" != inside ]; then
  directory=$1 project=$2
  groups=$directory/groups
  mkdir "$groups" "$directory/root"
  mount -t cgroup2 cgroup2 "$groups"
  group=$groups/ebb-test-$$
  end() {
    # What systemd has made, from the inside to the outside. Control groups outlive their processes for a moment.
    for try in 1 2 3 4 5 6 7 8 9; do
      find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [ -d "$group" ] || break
      sleep 0.1
    done
    umount "$groups"
  }
  trap end EXIT
  mkdir "$group"
  sh -c 'echo $$ >"$0/cgroup.procs"; exec "$@"' "$group" \
    unshare --pid --fork --kill-child --mount --propagation private --cgroup --uts --ipc \
    sh "$0" inside "$directory" "$project" &
  wait $! || true
  exit 0
fi

directory=$2 project=$3
root=$directory/root
read -r pid _ </proc/self/stat

# First of all away from the copies of this machine's mounts: trees of other tests have one more user meanwhile.
mount --bind / "$root"
mount -t tmpfs tmpfs "$root/run"
mkdir "$root/run/test" "$root/run/project" "$root/run/before"
mount --bind "$directory" "$root/run/test"
mount --bind "$project" "$root/run/project"
mount -t proc proc "$root/proc"
cd "$root"
pivot_root . run/before
cd /
umount -l /run/before
if [ -d /var/cache/ebb ]; then mount --bind /var/cache/ebb /var/cache/ebb; fi
mount -o remount,bind,ro /
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
# Read-only, it tells systemd that nobody manages devices.
mount -t sysfs -o ro sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t devtmpfs devtmpfs /dev
: >/run/test/console
mount --bind /run/test/console /dev/console
mount --bind /dev/null /dev/kmsg
for place in tmp srv dev/shm usr/local/bin etc/systemd/system var/lib; do mount -t tmpfs tmpfs "/$place"; done
mkdir /srv/disk /var/lib/ebb
mount --bind /run/test/lib /var/lib/ebb
ln -s /run/project/ebb /usr/local/bin/ebb
cp -R /run/test/units/. /etc/systemd/system

PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Units of the test alone: nothing of what this machine has enabled, nothing of its fstab.
SYSTEMD_UNIT_PATH=/etc/systemd/system SYSTEMD_GENERATOR_PATH=/run/none SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/none
export PATH SYSTEMD_UNIT_PATH SYSTEMD_GENERATOR_PATH SYSTEMD_ENVIRONMENT_GENERATOR_PATH
echo 'namespaces are ready'
sh -eu /run/test/prepare
echo "first process $pid"
exec env -i container=ebb-test PATH="$PATH" SYSTEMD_UNIT_PATH="$SYSTEMD_UNIT_PATH" \
  SYSTEMD_GENERATOR_PATH="$SYSTEMD_GENERATOR_PATH" \
  SYSTEMD_ENVIRONMENT_GENERATOR_PATH="$SYSTEMD_ENVIRONMENT_GENERATOR_PATH" \
  setpriv --bounding-set=-sys_time,-sys_module \
  /usr/lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=false
