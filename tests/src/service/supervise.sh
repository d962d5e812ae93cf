#!/usr/bin/env bash
# supervise.sh SCRATCH GRACE COMMAND…: runs a server until standard input ends. Then ends it and everything that it
# started, and removes SCRATCH. The process at the other end of standard input need not do anything: the kernel closes
# it even if that process is killed. Prints the server's process id. The server's output goes to SCRATCH/log.
set -u
scratch=$1 grace=$2
shift 2
cd "$scratch" || exit 1

# A session of its own, by which also processes in other process groups can be found.
setsid "$@" </dev/null >log 2>&1 &
server=$!
printf '%s\n' "$server"
# Without this, job control would report the end of the server on standard error.
disown "$server"
cat >/dev/null

kill -TERM "$server" 2>/dev/null
for ((i = 0; i < grace * 20; i++)); do
    kill -0 "$server" 2>/dev/null || break
    sleep 0.05
done
pkill -KILL --session "$server"
# Container runtimes leave mounts behind if they are killed.
for ((i = 0; i < 5; i++)); do
    mapfile -t mounts < <(findmnt --raw --noheadings --output TARGET | grep -F "$scratch/" | sort -r)
    ((${#mounts[@]})) || break
    umount --lazy "${mounts[@]}" 2>/dev/null
done
cd / && rm -rf --one-file-system -- "$scratch"
