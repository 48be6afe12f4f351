#!/usr/bin/env bash
#
# Measures everything that Orrery promises about its speed and size, on this machine,
# with real disks and real processes, and writes it into docs/performance.md: medians,
# spread, budgets, plots. What is written by hand there stays.
#
#   scripts/bench.sh                   all of it, five times (about an hour)
#   scripts/bench.sh --runs 3          three times
#   scripts/bench.sh --only A,B        some sections: table, machine, failover, idle,
#                                      restart, start, stored, agents, payload, nodes
#   scripts/bench.sh --soak            also ten minutes at half of the highest rate
#   scripts/bench.sh --large           also with 10 million stored jobs
#   scripts/bench.sh --quick           a little of everything, once, in less than a
#                                      minute; writes nothing outside its own folder
#   scripts/bench.sh --compare REV     this revision and another one in turn: the table
#                                      as ratios; writes nothing
#   scripts/bench.sh --render          only writes the document anew
#
#   --out FILE   the document (docs/performance.md); its figures and plots lie beside it
#   --dir DIR    the folder for data (/var/tmp); it must be on a real disk
#
# A figure that is measured replaces the one that was there; others stay. Nothing else
# should run on the machine meanwhile. On Ctrl-C what was started is stopped, and the
# document stays as it was.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

runs=5 quick=false soak=false large=false only='' compare='' render=false out=docs/performance.md dir=/var/tmp
need() { [[ $# -ge 2 && -n $2 ]] || { echo "bench.sh: $1 needs a value" >&2 && exit 2; }; }
while (($# > 0)); do
	case "$1" in
	--runs) need "$@" && runs=$2 && shift ;;
	--only) need "$@" && only=$2 && shift ;;
	--soak) soak=true ;;
	--large) large=true ;;
	--quick) quick=true ;;
	--compare) need "$@" && compare=$2 && shift ;;
	--render) render=true ;;
	--out) need "$@" && out=$2 && shift ;;
	--dir) need "$@" && dir=$2 && shift ;;
	-h | --help)
		sed -n '3,27s/^# \{0,1\}//p' scripts/bench.sh
		exit 0
		;;
	*)
		echo "bench.sh: unknown argument $1; --help says what there is" >&2
		exit 2
		;;
	esac
	shift
done
[[ $runs =~ ^[1-9][0-9]*$ ]] || { echo "bench.sh: --runs $runs is no number" >&2 && exit 2; }

say() { printf '%s  %s\n' "$(date +%H:%M:%S)" "$*" >&2; }
fail() {
	printf 'bench.sh: %s\n' "$*" >&2
	exit 1
}

known=table,machine,failover,idle,restart,start,stored,agents,payload,nodes,soak
for s in ${only//,/ }; do
	[[ ,$known, == *,$s,* ]] || fail "there is no section $s; the sections are ${known//,/, }"
done
# wants SECTION is true when it is to be measured.
wants() {
	if [[ -n $only ]]; then
		[[ ,$only, == *,$1,* ]]
	elif [[ $1 == soak ]]; then
		$soak
	elif $quick; then
		[[ $1 != machine && $1 != failover && $1 != restart && $1 != nodes ]]
	else
		true
	fi
}

# How long and how much.
duration=8s warmup=2s short=4s fill=200000 idle=10000 settle=10s
stored=(0 1000 10000 100000 1000000) agents=(1 100 10000) payloads=(100 1000 100000)
if $large; then stored+=(10000000); fi
if $quick; then
	runs=1 duration=700ms warmup=200ms short=500ms fill=5000 idle=50 settle=0
	stored=(0 5000) agents=(1 20) payloads=(1000)
fi

mkdir -p "$dir"
case $(stat -f -c %T "$dir") in
tmpfs | ramfs) fail "$dir is in memory, where a sync costs nothing; name a folder on a disk with --dir" ;;
esac
work=$(mktemp -d "$dir/orrery-bench.XXXXXX")
results=$work/results
mkdir "$results"

# What was started here, by process id; nothing else is ever stopped.
nodes=()   # process ids
urls=()    # where they answer
args=()    # arguments of node i, as lines of words
busy=0     # a bench in the background
worktree='' # of the revision to compare with

kill_hard() {
	local pid
	for pid in "${nodes[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
	for pid in "${nodes[@]}"; do wait "$pid" 2>/dev/null || true; done
	nodes=()
}

# stop_nodes ends the nodes in order, but doesn't wait for ever.
stop_nodes() {
	local pid deadline=$((SECONDS + 20))
	for pid in "${nodes[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
	for pid in "${nodes[@]}"; do
		while kill -0 "$pid" 2>/dev/null && ((SECONDS < deadline)); do sleep 0.05; done
	done
	kill_hard
}

stop_busy() {
	if ((busy > 0)); then
		kill -KILL "$busy" 2>/dev/null || true
		wait "$busy" 2>/dev/null || true
		busy=0
	fi
}

finish() {
	local code=$?
	trap '' INT TERM
	trap - EXIT
	stop_busy
	stop_nodes
	if [[ -n $worktree ]]; then git worktree remove --force "$worktree" 2>/dev/null || true; fi
	rm -rf "$work"
	exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

# All of the environment that would change what is measured.
unset ORRERY_ADDR ORRERY_TOKEN ORRERY_TOKEN_FILE GOGC GOMEMLIMIT GOMAXPROCS GODEBUG

go build -modfile=tools.mod -o "$work/perf" $(find scripts/perf -name '*.go' ! -name '*_test.go')
perf=$work/perf
if $render; then
	"$perf" render "${out%.md}.json" "$out"
	exit 0
fi
say "building"
CGO_ENABLED=0 go build -trimpath -o "$work/orrery" .
orrery=$work/orrery # the bench is always this revision's
program=$orrery     # that of the nodes
revision=$(git describe --always --dirty 2>/dev/null || echo unknown)
"$perf" facts "$work" "$revision" >"$work/facts.json"

# spawn I starts node I with what it has been started with.
spawn() {
	# shellcheck disable=SC2086 # the arguments are words without blanks
	"$program" server ${args[$1]} --log-level warn </dev/null >>"$work/node$1.log" 2>&1 &
	nodes[$1]=$!
}

# ready waits for all nodes.
ready() {
	"$perf" await "${urls[@]}" || {
		tail -n 5 "$work"/node*.log >&2
		fail "a node did not become ready"
	}
}

# start N starts a new cluster of N nodes with empty folders.
start() {
	local n=$1 i free join=''
	rm -rf "$work"/n[0-9]* "$work"/node*.log
	read -r -a free <<<"$("$perf" ports $((2 * n)))"
	urls=() nodes=() args=()
	if ((n > 1)); then
		rm -f "$work/key"
		"$orrery" cluster key --out "$work/key" >/dev/null
		for ((i = 0; i < n; i++)); do join+=,127.0.0.1:${free[n + i]}; done
	fi
	for ((i = 0; i < n; i++)); do
		urls[i]=http://127.0.0.1:${free[i]}
		args[i]="--data $work/n$i --http 127.0.0.1:${free[i]}"
		if ((n > 1)); then
			args[i]+=" --cluster 127.0.0.1:${free[n + i]} --cluster-key-file $work/key --bootstrap-expect $n --join ${join#,}"
		fi
		spawn "$i"
	done
	ready
}

addrs() { local IFS=,; echo "${urls[*]}"; }

# bad ARGS... ends the script because a bench did; what the nodes said may tell why.
bad() {
	tail -n 20 "$work"/node*.log >&2
	fail "orrery bench $* ended badly"
}

# bench FIGURE MODE ARGS... measures the running cluster.
bench() {
	local figure=$1 file=$results/$1/$run.json
	shift
	mkdir -p "$results/$figure"
	timeout --foreground -k 20 1800 "$orrery" bench "$@" --addr "$(addrs)" --json >"$file" || bad "$@"
}

# fill_with ARGS... stores jobs that nobody executes.
fill_with() {
	timeout --foreground -k 20 3600 "$orrery" bench submit --keep --connections 4 --addr "$(addrs)" --json "$@" >"$work/fill.json" ||
		bad submit "$@"
}

# note FIGURE TEXT... keeps lines of names and numbers.
note() {
	local figure=$1
	shift
	mkdir -p "$results/$figure"
	printf '%s\n' "$@" >>"$results/$figure/$run.num"
}

# since NANOSECONDS is the time since then, in milliseconds.
since() { echo $((($(date +%s%N) - $1) / 1000000)); }

# one FIGURE NODES MODE ARGS... measures a new cluster.
one() {
	local figure=$1 n=$2
	shift 2
	start "$n"
	bench "$figure" "$@"
	stop_nodes
}

load=(--duration "$duration" --warmup "$warmup" --keep)

table() {
	local n=$1
	say "run $run of $runs: table, $n node(s)"
	one "submit/$n" "$n" submit "${load[@]}"
	one "e2e/$n" "$n" e2e "${load[@]}"
	one "latency/$n" "$n" latency "${load[@]}"
}

more() {
	local n=$1
	one "batch/$n" "$n" submit --batch 500 --connections 4 "${load[@]}"
	one "process/$n" "$n" process --jobs "$fill" --keep
}

machine() {
	say "run $run of $runs: state machine in process"
	export TMPDIR=$work
	note machine/1 "$(go test -run '^$' -bench 'Jobs/callers=1024$' -benchtime 300000x ./cluster | "$perf" gobench)"
	note machine/3 "$(go test -run '^$' -bench 'Jobs/callers=1024$' -benchtime 100000x ./internal/clustertest | "$perf" gobench)"
	unset TMPDIR
}

# failover kills leaders once, however many runs there are: it kills many.
failover() {
	say "killing 30 leaders"
	local text
	text=$(scripts/chaos.sh --failover 30 --program "$work/chaos" 2>&1 | tee "$work/failover.log") || true
	text=$(sed -n 's/.*dispatched: p50 \([^,]*\), p99 \([^ ]*\) over.*/\1 \2/p' <<<"$text" | tail -n 1)
	[[ -n $text ]] || { tail -n 20 "$work/failover.log" >&2 && fail "scripts/chaos.sh said nothing of how long it took"; }
	note failover/3 "p50 $(duration_ms "${text% *}")" "p99 $(duration_ms "${text#* }")"
}

# duration_ms turns what Go writes, such as 1.25s or 900ms, into milliseconds.
duration_ms() {
	case $1 in
	*µs) awk "BEGIN{print ${1%µs} / 1000}" ;;
	*ms) echo "${1%ms}" ;;
	*m*) awk "BEGIN{split(\"${1%s}\", a, \"m\"); print (a[1] * 60 + a[2]) * 1000}" ;;
	*s) awk "BEGIN{print ${1%s} * 1000}" ;;
	esac
}

idle_agents() {
	local n
	for n in $($quick && echo 1 || echo 1 3); do
		say "run $run of $runs: $idle idle agents, $n node(s)"
		start "$n"
		sleep "$settle"
		bench "idle/$n" idle-agents --agents "$idle" --duration "$($quick && echo 1s || echo 30s)"
		stop_nodes
	done
}

# restart kills all nodes with -9 while they write, with a database of 1 GB.
restart() {
	local n i began size
	for n in 1 3; do
		say "run $run of $runs: start with 1 GB, $n node(s)"
		start "$n"
		for ((i = 0; i < 10; i++)); do
			fill_with --jobs 100000 --batch 500 --payload 3000
			size=$("$perf" sample "${urls[0]}" | sed -n 's/^database //p')
			if ((size > 1 << 30)); then break; fi
		done
		"$orrery" bench submit --keep --batch 100 --duration 5m --addr "$(addrs)" --json >/dev/null 2>&1 &
		busy=$!
		sleep 1
		kill_hard
		stop_busy
		began=$(date +%s%N)
		for ((i = 0; i < n; i++)); do spawn "$i"; done
		ready
		note "restart/$n" "ready_ms $(since "$began")" "database $size"
		stop_nodes
	done
}

start_up() {
	say "run $run of $runs: start"
	note start "size $(stat -c %s "$orrery")" "$("$perf" launch "$orrery" "$work")"
}

# stored_jobs measures with many jobs that wait in another queue.
stored_jobs() {
	local n began at
	for n in "${stored[@]}"; do
		say "run $run of $runs: $n stored jobs"
		at=stored/$n
		start 1
		if ((n > 0)); then fill_with --jobs "$n" --batch "$((n < 1000 ? n : 1000))"; fi
		sleep "$settle"
		note "$at" "$("$perf" sample "${urls[0]}" | sed 's/^rss/filled_rss/; s/^database/filled_database/')"
		stop_nodes
		began=$(date +%s%N)
		spawn 0
		ready
		note "$at" "ready_ms $(since "$began")"
		sleep "$settle"
		note "$at" "$("$perf" sample "${urls[0]}" | sed 's/^rss/restarted_rss/; /^database/d')"
		# In this order: each leaves more behind than the one before.
		bench "$at/latency" latency --duration "$short" --keep
		bench "$at/e2e" e2e --duration "$short" --warmup "$warmup" --keep
		bench "$at/submit" submit --duration "$short" --warmup "$warmup" --keep
		stop_nodes
	done
}

by_agents() {
	local n
	for n in "${agents[@]}"; do
		say "run $run of $runs: $n agents"
		start 1
		bench "agents/$n/latency" latency --agents "$n" --duration "$short" --keep
		bench "agents/$n/e2e" e2e --agents "$n" --duration "$short" --warmup "$warmup" --keep
		stop_nodes
	done
}

by_payload() {
	local n
	for n in "${payloads[@]}"; do
		say "run $run of $runs: payloads of $n bytes"
		one "payload/$n/latency" 1 latency --payload "$n" --duration "$short" --keep
		one "payload/$n/submit" 1 submit --payload "$n" --duration "$short" --warmup "$warmup" --keep
		one "payload/$n/e2e" 1 e2e --payload "$n" --batch 100 --in-flight 2000 --duration "$short" --warmup "$warmup" --keep
	done
}

# soak_run is long, so it is done once, at half of the highest rate of these runs.
soak_run() {
	local rate
	if [[ ! -d $results/e2e/1 ]]; then one e2e/1 1 e2e "${load[@]}"; fi
	rate=$(cat "$results"/e2e/1/*.json | sed -n 's/.*"jobs_per_second": \([0-9]*\).*/\1/p' | sort -n | tail -n 1)
	say "$($quick && echo 5 s || echo ten minutes) at $((rate / 2)) jobs/s"
	start 1
	bench soak/1 e2e --rate $((rate / 2)) --batch 50 --connections 16 --retention 30s --duration "$($quick && echo 5s || echo 10m)"
	stop_nodes
}

measure() {
	if wants table; then
		for n in 1 3; do
			table "$n"
			if ! $quick || ((n == 1)); then more "$n"; fi
		done
	fi
	if wants nodes; then table 5; fi
	if wants machine; then machine; fi
	if wants idle; then idle_agents; fi
	if wants restart; then restart; fi
	if wants start; then start_up; fi
	if wants stored; then stored_jobs; fi
	if wants agents; then by_agents; fi
	if wants payload; then by_payload; fi
	if ((run == 1)); then
		if wants failover; then
			CGO_ENABLED=0 go build -trimpath -tags chaos -o "$work/chaos" .
			failover
		fi
		if wants soak; then soak_run; fi
	fi
}

# both measures the table with the other revision's nodes and with ours, in turn.
both() {
	local old=$work/old
	worktree=$work/tree
	git worktree add --detach "$worktree" "$compare" >/dev/null 2>&1 || fail "there is no revision $compare"
	say "building $compare"
	(cd "$worktree" && CGO_ENABLED=0 go build -trimpath -o "$old" .)
	for ((run = 1; run <= runs; run++)); do
		for n in 1 3; do
			# Who is first changes, lest one always finds the disk as the other left it.
			for which in $( ((run % 2)) && echo old new || echo new old); do
				if [[ $which == old ]]; then
					program=$old results=$work/results.old
				else
					program=$orrery results=$work/results
				fi
				say "$which nodes"
				table "$n"
			done
		done
	done
	echo "old: $compare ($(git rev-parse --short "$compare")), new: $revision, $runs runs of each in turn; load average before $(sed 's/.*"load":\([0-9.]*\).*/\1/' "$work/facts.json")"
	"$perf" compare "$work/results.old" "$work/results"
}

if [[ -n $compare ]]; then
	both
	exit 0
fi
for ((run = 1; run <= runs; run++)); do measure; done
if $quick; then
	cp docs/performance.md "$work/performance.md"
	out=$work/performance.md
fi
"$perf" collect "$results" "${out%.md}.json" "$work/facts.json"
"$perf" render "${out%.md}.json" "$out"
sed -n '/<!-- bench:budgets -->/,/<!-- end:others -->/p' "$out" | grep '^|'
say "written: $out"
