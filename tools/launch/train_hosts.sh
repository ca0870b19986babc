#!/bin/bash
# Trains on several machines that ssh reaches, one process for each with all its GPUs.
#
#   tools/launch/train_hosts.sh HOST[,HOST...] CAPTURE --base BASE --out OUT [flags of svp train]
#
# The first host is process 0. This folder, CAPTURE, BASE and OUT must be the same on all of them. Each one's output goes
# to LOGS/HOST.log. Ctrl-C or SIGTERM here asks the training to stop: it saves, and the same command goes on.
# PORT, VENV and LOGS may be set in the environment.
set -u

if [ $# -lt 2 ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
IFS=, read -r -a hosts <<<"$1"
shift
PORT=${PORT:-8476}
VENV=${VENV:-$PWD/.venv}
LOGS=${LOGS:-$PWD/logs}
mkdir -p "$LOGS"

# What a remote shell reads as one word each.
flags=$(printf ' %q' "$@")
started=()
for number in "${!hosts[@]}"; do
    host=${hosts[$number]}
    # The number of the remote process, which `exec` keeps, is how it alone is told to stop. Without a terminal the
    # connection's end would not end it.
    command="cd $(printf %q "$PWD") && echo \$\$ >$(printf %q "$LOGS/$host.pid") && exec $(printf %q "$VENV/bin/svp") \
train$flags --coordinator ${hosts[0]#*@}:$PORT --processes ${#hosts[@]} --process $number"
    ssh -o BatchMode=yes "$host" "$command" >"$LOGS/$host.log" 2>&1 </dev/null &
    started+=($!)
done
echo "${#hosts[@]} processes; what process 0 says is in $LOGS/${hosts[0]}.log"

stop() {
    # They agree on the step after which all stop.
    for host in "${hosts[@]}"; do
        ssh -o BatchMode=yes "$host" "kill -TERM \$(cat $(printf %q "$LOGS/$host.pid"))" </dev/null
    done
}
trap stop TERM INT

code=0
for number in "${!started[@]}"; do
    wait "${started[$number]}"
    found=$?
    # A signal ends the waiting, not what is waited for.
    while kill -0 "${started[$number]}" 2>/dev/null; do
        wait "${started[$number]}"
        found=$?
    done
    if [ "$found" -ne 0 ]; then
        echo "${hosts[$number]} ended with $found; see $LOGS/${hosts[$number]}.log" >&2
        [ "$code" -ne 0 ] || code=$found
    fi
done
exit "$code"
