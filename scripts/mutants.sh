#!/usr/bin/env bash
#
# Proves that the chaos suite can see: builds programs with one safety taken out, and
# runs the part of the suite that must notice. Red when a mutant survives.
#
#   scripts/mutants.sh            all of them
#   scripts/mutants.sh fence ack  only these
#
# ORRERY_MUTANT_TRIES (3) is how many seeds a mutant gets: some are seen only when a
# fault meets the right moment.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# name | what is missing | invariants that can see it | faults | how long they go on
mutants="
fence|apply and scheduler take a result whatever its fence|3|agent-pause,agent-cut|40s
request|a repeated request id is executed again|1 5|lose-answers,kill-leader|20s
ack|cancel and retry are acknowledged before they are committed|5|kill-leader,isolate-leader|25s
time|apply asks its own clock|4|transfer|8s
read|a linearizable read does not ask whether this node still leads|5|pause-leader|40s
cursor|apply takes a tick whatever the cursor and the revision|8|kill-leader,transfer|30s
nosync|the log is not synced|1|power-all|20s
"

wanted=("$@")
root=0
[[ $(id -u) == 0 ]] && root=1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
survived=0
table=
while IFS='|' read -r name what expect faults duration; do
	[[ -n $name ]] || continue
	if ((${#wanted[@]})) && [[ " ${wanted[*]} " != *" $name "* ]]; then
		continue
	fi
	if [[ $name == nosync && $root == 0 ]]; then
		table+="$name|$what|LEFT OUT: needs root, to take the power from a disk"$'\n'
		continue
	fi
	verdict=
	for seed in $(seq 1 "${ORRERY_MUTANT_TRIES:-3}"); do
		echo "=== mutant $name ($what), seed $seed"
		if scripts/chaos.sh --quick --seed "$seed" --faults "$faults" --duration "$duration" --keep "$tmp/keep" \
			--tags "mutant_$name" </dev/null >"$tmp/out" 2>&1; then
			echo "    not seen"
			continue
		fi
		if ! grep -q 'RED: seed' "$tmp/out"; then
			echo "    the run itself failed:" && tail -20 "$tmp/out"
			verdict="THE RUN FAILED"
			break
		fi
		caught=$(sed -n 's/.*RED: seed [0-9]*, invariants\(.*\); history.*/\1/p' "$tmp/out" | head -1)
		for number in $expect; do
			if [[ $caught == *" $number("* ]]; then
				verdict="caught by invariant$caught, seed $seed"
			fi
		done
		[[ -n $verdict ]] || echo "    red for another reason:"
		grep -m 3 'violated [0-9]' "$tmp/out" | cut -c1-250 | sed 's/^ */    /'
		[[ -z $verdict ]] || break
	done
	[[ -n $verdict && $verdict != THE* ]] || {
		survived=1
		verdict=${verdict:-SURVIVED}
	}
	table+="$name|$what|$verdict"$'\n'
done <<<"$mutants"

echo
printf '%s' "$table" | while IFS='|' read -r name what verdict; do printf '%-8s %-66s %s\n' "$name" "$what" "$verdict"; done
if ((survived)); then
	echo "RED: a mutant survived"
	exit 1
fi
