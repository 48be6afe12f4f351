#!/usr/bin/env bash
#
# Profiles a node under a load of `orrery bench` and prints where its time, its
# allocations and its waiting go.
#
#   scripts/profile.sh MODE [FLAG...]     MODE and flags as for `orrery bench`
#
# ORRERY_PROFILE_SECONDS (10) is how long; ORRERY_PROFILE_TOP (25) how many lines. The
# profiles are kept in the folder that it names, for `go tool pprof`.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if (($# == 0)) || [[ $1 == -h || $1 == --help ]]; then
	sed -n '3,9s/^# \{0,1\}//p' scripts/profile.sh
	exit 2
fi
seconds=${ORRERY_PROFILE_SECONDS:-10} top=${ORRERY_PROFILE_TOP:-25}
dir=$(mktemp -d /var/tmp/orrery-profile.XXXXXX)
node=
trap '[[ -z $node ]] || { kill "$node" 2>/dev/null || true; wait "$node" 2>/dev/null || true; }; rm -rf "$dir/data" "$dir/orrery"' EXIT

CGO_ENABLED=0 go build -trimpath -o "$dir/orrery" .
port() { shuf -i 20000-32000 -n 1; }
http=127.0.0.1:$(port) pprof=127.0.0.1:$(port)
"$dir/orrery" server --data "$dir/data" --http "$http" --profile "$pprof" --log-level warn >"$dir/node.log" 2>&1 &
node=$!
for _ in $(seq 100); do
	curl -fs "http://$http/readyz" >/dev/null && break
	kill -0 "$node" 2>/dev/null || {
		cat "$dir/node.log" >&2
		exit 1
	}
	sleep 0.1
done

# How long the load goes on, and after how long what is meant by the mode has begun.
delay=3
case $1 in
process) length=(--jobs $((seconds * 100000))) delay=$((seconds + 4)) ;; # the queue is filled first
idle-agents) length=(--duration $((seconds + 10))s) delay=6 ;;
*) length=(--warmup 2s --duration $((seconds + 4))s) ;;
esac
"$dir/orrery" bench "$@" --addr "http://$http" "${length[@]}" >"$dir/bench.txt" 2>"$dir/bench.err" &
bench=$!
sleep "$delay"
curl -fs "http://$pprof/debug/pprof/profile?seconds=$seconds" -o "$dir/cpu"
for kind in allocs mutex block heap; do curl -fs "http://$pprof/debug/pprof/$kind" -o "$dir/$kind"; done
wait "$bench" || { cat "$dir/bench.err" >&2 && exit 1; }
cat "$dir/bench.txt"

show() {
	printf '\n=== %s\n' "$1"
	shift
	go tool pprof "$@" 2>/dev/null | sed -n "1,$((top + 7))p"
}
show "time, by function" -top "$dir/cpu"
show "time, with what is called" -top -cum "$dir/cpu"
show "allocated bytes, with what is called" -sample_index=alloc_space -top -cum "$dir/allocs"
show "waiting for mutexes" -top -cum "$dir/mutex"
show "blocked" -top -cum "$dir/block"
printf '\nthe profiles are in %s\n' "$dir"
