#!/bin/sh
# Removes what a host test made, when the test's end of the pipe on stdin closes: by itself, or because the test was
# killed. Each line is a kind and a name: cgroup NAME, mount PATH, netns NAME, folder PATH.
set -u
trap '' INT TERM HUP
cgroups='' mounts='' namespaces='' folders=''
while read -r kind name; do
  case $kind in
    cgroup) cgroups="$name $cgroups" ;;
    mount) mounts="$name $mounts" ;;
    netns) namespaces="$name $namespaces" ;;
    folder) folders="$name $folders" ;;
  esac
done

# cgroup v2 is at the top, or beside the old hierarchies in `unified`. cgroup.kill ends what is in there and nothing
# else, so no process number can be mistaken for another's.
for name in $cgroups; do
  for tree in "/sys/fs/cgroup/$name" "/sys/fs/cgroup/unified/$name"; do
    [ -e "$tree/cgroup.kill" ] || continue
    echo 1 >"$tree/cgroup.kill"
    tries=0
    while grep -q 'populated 1' "$tree/cgroup.events" && [ $tries -lt 200 ]; do
      tries=$((tries + 1))
      sleep 0.05
    done
  done
  # systemd-nspawn makes the same folders in the hierarchy of systemd's own, where there is one.
  for tree in "/sys/fs/cgroup/$name" /sys/fs/cgroup/*/"$name"; do
    [ ! -d "$tree" ] || find "$tree" -depth -type d -exec rmdir {} +
  done
done
for path in $mounts; do
  umount "$path" || umount --lazy "$path"
done
for name in $namespaces; do
  [ ! -e "/run/netns/$name" ] || ip netns delete "$name"
done
for path in $folders; do
  rm -rf --one-file-system "$path"
done
