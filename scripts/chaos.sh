#!/usr/bin/env bash
#
# Proves the guarantees with real processes: breaks nodes, networks, disks, clocks
# and agents while clients work, and checks at the end what was promised.
# docs/reliability.md says what is tested.
#
#   scripts/chaos.sh --quick           at most 3 minutes (the default; check.sh runs it)
#   scripts/chaos.sh --soak 20m        for long
#   scripts/chaos.sh --failover 30     kills 30 leaders and says how long each took
#   scripts/chaos.sh --single          one node alone
#   scripts/chaos.sh --schedules 10000 breaks nothing, and says how late ticks become jobs
#
#   --seed N          the schedule of a run before (it is printed, red or green)
#   --faults A,B      only these
#   --net NAME        proxies, or spaces (network namespaces, as root); by the seed otherwise
#   --duration D      how long faults go on; of --schedules, how long each half is watched
#   --keep FOLDER     for the history of a failed run (chaos-history)
#   --tags LIST       build tags of the program, besides chaos
#   --program FILE    a program that is built already
#
# As root each node gets a disk of its own that can be frozen, filled and cut off;
# otherwise those faults are left out, and the run says so.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mode=quick seed=0 duration=0 kills=30 schedules=10000 faults= net= keep=chaos-history tags= program=
while (($# > 0)); do
	case "$1" in
	--quick) mode=quick ;;
	--single) mode=single ;;
	--soak) mode=soak duration=$2 && shift ;;
	--schedules) mode=schedules schedules=$2 && shift ;;
	--failover) mode=failover kills=$2 && shift ;;
	--seed) seed=$2 && shift ;;
	--faults) faults=$2 && shift ;;
	--net) net=$2 && shift ;;
	--duration) duration=$2 && shift ;;
	--keep) keep=$2 && shift ;;
	--tags) tags=,$2 && shift ;;
	--program) program=$2 && shift ;;
	-h | --help)
		sed -n '3,24s/^# \{0,1\}//p' scripts/chaos.sh
		exit 0
		;;
	*)
		echo "chaos.sh: unknown argument $1; --help says what there is" >&2
		exit 2
		;;
	esac
	shift
done

export CGO_ENABLED=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if [[ -z $program ]]; then
	program=$tmp/orrery
	go build -trimpath -tags "chaos$tags" -o "$program" .
fi
go test -c -o "$tmp/chaos.test" ./chaos
mkdir -p "$tmp/room" "$keep"
keep=$(cd "$keep" && pwd)

# -test.timeout ends all of it, with every process, when something sticks for good.
cd "$tmp"
status=0
"$tmp/chaos.test" -test.run '^TestChaos$' -test.timeout 4h -chaos "$mode" -seed "$seed" -duration "$duration" \
	-kills "$kills" -schedules "$schedules" -faults "$faults" -net "$net" -binary "$program" -keep "$keep" -room "$tmp/room" || status=$?
rmdir --ignore-fail-on-non-empty "$keep" 2>/dev/null || true
exit $status
