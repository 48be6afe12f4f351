#!/usr/bin/env bash
#
# Three nodes and an agent on this machine, with one command. Ctrl-C stops them;
# started again, they go on with the data that is there.
#
#   scripts/cluster.sh                     start, and stay until Ctrl-C
#   scripts/cluster.sh --data DIR          keep everything in DIR (./orrery-cluster)
#   scripts/cluster.sh --base-port N       listen on N, N+10, N+20 (HTTP) and one above
#                                          each (cluster port); 7700 unless told otherwise
#   scripts/cluster.sh --check             start with a fresh folder, submit jobs to every
#                                          node, kill the leader with -9 while jobs go on,
#                                          compare all nodes, stop; the exit code says
#                                          whether all was right
#
# The agent may run commands (--exec), so do this on your own machine only.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data=orrery-cluster
base=7700
check=false
while (($# > 0)); do
	case "$1" in
	--data) data=${2:?--data needs a folder} && shift 2 ;;
	--base-port) base=${2:?--base-port needs a number} && shift 2 ;;
	--check | --exit-after-check) check=true && shift ;;
	-h | --help)
		sed -n '3,17s/^# \{0,1\}//p' scripts/cluster.sh
		exit 0
		;;
	*)
		echo "cluster.sh: unknown argument $1 (--data, --base-port, --check)" >&2
		exit 2
		;;
	esac
done
if $check; then
	data=$(mktemp -d)
fi
mkdir -p "$data"
if [[ $data != /* ]]; then data=./${data#./}; fi

http() { echo "127.0.0.1:$((base + 10 * ($1 - 1)))"; }
port() { echo "127.0.0.1:$((base + 10 * ($1 - 1) + 1))"; }
addrs="http://$(http 1),http://$(http 2),http://$(http 3)"
join="$(port 1),$(port 2),$(port 3)"

say() { printf '%s\n' "$*"; }
fail() {
	printf 'cluster.sh: %s\n' "$*" >&2
	exit 1
}

# What was started here, by process id; nothing else is ever stopped. Each process
# gets a group of its own, so that Ctrl-C reaches this script alone, which stops
# them in order.
pids=(0 0 0 0) # the agent, then the nodes

node() {
	set -m
	"$data/orrery" server --data "$data/n$1" --http "$(http "$1")" --cluster "$(port "$1")" \
		--cluster-key-file "$data/cluster.key" --bootstrap-expect 3 --join "$join" \
		</dev/null >>"$data/n$1.log" 2>&1 &
	pids[$1]=$!
	set +m
}

agent() {
	set -m
	"$data/orrery" agent --addr "$addrs" --exec --id agent-1 </dev/null >>"$data/agent.log" 2>&1 &
	pids[0]=$!
	set +m
}

alive() { ((pids[$1] > 0)) && kill -0 "${pids[$1]}" 2>/dev/null; }

# stop NUMBER... stops processes with SIGTERM and waits for them.
stop() {
	local i
	for i in "$@"; do
		if alive "$i"; then kill -TERM "${pids[$i]}" 2>/dev/null || true; fi
	done
	for i in "$@"; do
		if ((pids[i] > 0)); then wait "${pids[$i]}" 2>/dev/null || true; fi
		pids[i]=0
	done
}

finish() {
	local code=$?
	trap '' INT TERM
	trap - EXIT
	if ((pids[0] + pids[1] + pids[2] + pids[3] > 0)); then
		say "stopping the agent and the nodes"
		stop 0
		stop 1 2 3
	fi
	if $check; then
		if ((code == 0)); then rm -rf "$data"; else say "the logs and the data are in $data"; fi
	fi
	exit "$code"
}
trap finish EXIT
trap 'exit 0' INT TERM

# ready NUMBER waits until a node is.
ready() {
	local deadline=$((SECONDS + 60))
	until curl -fs -o /dev/null "http://$(http "$1")/readyz"; do
		if ! alive "$1"; then
			tail -n 5 "$data/n$1.log" >&2
			fail "node $1 has ended; its log is $data/n$1.log"
		fi
		if ((SECONDS > deadline)); then
			tail -n 5 "$data/n$1.log" >&2
			fail "node $1 is not ready after a minute; its log is $data/n$1.log"
		fi
		sleep 0.1
	done
}

orrery() { "$data/orrery" --addr "$addrs" "$@"; }

CGO_ENABLED=0 go build -trimpath -o "$data/orrery" . || fail "the program does not build"
if [[ ! -e $data/cluster.key ]]; then
	"$data/orrery" cluster key --out "$data/cluster.key" >/dev/null
fi
for i in 1 2 3; do
	if curl -s -o /dev/null "http://$(http "$i")/healthz"; then
		fail "something answers at http://$(http "$i") already; stop it, or choose another --base-port"
	fi
done
for i in 1 2 3; do node $i; done
for i in 1 2 3; do ready $i; done
agent

if ! $check; then
	say "Three nodes are ready:"
	say
	for i in 1 2 3; do say "  http://$(http "$i")   data in $data/n$i, log in $data/n$i.log"; done
	say
	say "Submit a job to one, and wait for its result:"
	say
	say "  curl -s http://$(http 2)/v1/jobs -H 'Content-Type: application/json' -H 'Prefer: wait=30' -d '{\"type\":\"exec\",\"payload\":{\"argv\":[\"uname\",\"-sm\"]}}'"
	say
	say "See the cluster, and what happens when a node dies:"
	say
	say "  export ORRERY_ADDR=$addrs"
	say "  $data/orrery cluster status"
	say "  kill -9 ${pids[1]}   # node 1"
	say
	say "Stop    Ctrl-C"
	# The nodes that end are told of; the others go on. What bash itself has to say
	# of a process that was killed is left out.
	while :; do
		for i in 1 2 3; do
			if ((pids[i] > 0)) && ! alive "$i"; then
				code=0
				wait "${pids[$i]}" || code=$?
				pids[i]=0
				say "node $i has ended with code $code; start it again in another terminal with"
				say "  $data/orrery server --data $data/n$i --http $(http "$i") --cluster $(port "$i") --cluster-key-file $data/cluster.key"
			fi
		done
		sleep 1
	done 2>/dev/null
fi

# The check.

# field NAME reads a top-level field of a JSON document.
field() { sed -n "s/^  \"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}$/\1/p" | head -n 1; }

# numberOf ID tells which of the three a node id is.
numberOf() {
	local i
	for i in 1 2 3; do
		if [[ $("$data/orrery" --addr "http://$(http "$i")" cluster status --json 2>/dev/null | field node) == "$1" ]]; then
			echo $i
			return
		fi
	done
	return 1
}

submitted=0
# submit TEXT ADDRS submits a job that must complete.
submit() {
	"$data/orrery" --addr "$2" job submit echo --payload "{\"from\":\"$1\"}" --wait >"$data/out" 2>&1 || {
		cat "$data/out" >&2
		fail "the job of $1 did not complete"
	}
	submitted=$((submitted + 1))
}

say "1. a job through every node"
for i in 1 2 3; do submit "node $i" "http://$(http "$i")"; done

leader=$(orrery cluster status --json | field leader)
victim=$(numberOf "$leader") || fail "which node leads is not known"
say "2. kill -9 of the leader, node $victim, with jobs under way"
for i in 1 2 3 4; do
	orrery job submit exec --payload '{"argv":["sh","-c","sleep 0.5; echo done"]}' >"$data/out" 2>&1 || fail "$(cat "$data/out")"
	submitted=$((submitted + 1))
done
began=$(date +%s%N)
kill -9 "${pids[$victim]}"
wait "${pids[$victim]}" 2>/dev/null || true
pids[victim]=0
submit "the time after" "$addrs"
say "   the next job was submitted, executed and answered after $((($(date +%s%N) - began) / 1000000)) ms"
for i in $(seq 5); do submit "job $i" "$addrs"; done

say "3. node $victim comes back"
node "$victim"
ready "$victim"

say "4. every job has completed, on every node"
for i in 1 2 3; do
	deadline=$((SECONDS + 60))
	until [[ $(curl -fs "http://$(http "$i")/v1/queues/default?consistency=linearizable" | sed -n 's/.*"counts":{"completed":\([0-9]*\)}.*/\1/p') == "$submitted" ]]; do
		if ((SECONDS > deadline)); then
			curl -s "http://$(http "$i")/v1/queues/default" >&2
			fail "node $i does not have $submitted completed jobs and no others"
		fi
		sleep 0.2
	done
done
say "5. all nodes hold the same"
orrery cluster verify
orrery cluster status
say "all is right: $submitted jobs"
