#!/usr/bin/env bash
#
# Everything that must be green before a change is merged. Prints a heading for
# each step and how long it took; ends at the first red one.
#
#   scripts/check.sh                all of it
#   scripts/check.sh --fast         without the race detector, fuzzing, demo, cluster, chaos,
#                                   bench
#   scripts/check.sh --skip-tests   without the plain tests (they ran already)
#
# ORRERY_FUZZ_TIME (5s) is how long each fuzz test runs.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fast=false
skip_tests=false
for arg in "$@"; do
	case "$arg" in
	--fast) fast=true ;;
	--skip-tests) skip_tests=true ;;
	-h | --help)
		sed -n '3,11s/^# \{0,1\}//p' scripts/check.sh
		exit 0
		;;
	*)
		echo "check.sh: unknown argument $arg (--fast, --skip-tests)" >&2
		exit 2
		;;
	esac
done

# The product is built without cgo; only the race detector needs it.
export CGO_ENABLED=0

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

tool() { go tool -modfile=tools.mod "$@"; }

# step NAME COMMAND... runs the command under a heading.
step() {
	local name=$1 start=$SECONDS status=0
	shift
	printf '\n=== %s\n' "$name"
	# A subshell with its own -e: bash ignores -e in what a condition calls.
	set +e
	(
		set -e
		"$@"
	) </dev/null
	status=$?
	set -e
	if ((status != 0)); then
		printf -- '--- RED: %s (%ds)\n' "$name" $((SECONDS - start)) >&2
		exit 1
	fi
	printf -- '--- ok: %s (%ds)\n' "$name" $((SECONDS - start))
}

# sources lists the Go files written by hand, also those not yet added to git.
sources() {
	git ls-files -z --cached --others --exclude-standard -- '*.go' ':!*_gen.go' ':!*_gen_test.go' |
		while IFS= read -r -d '' f; do
			if [[ -e $f ]]; then printf '%s\0' "$f"; fi
		done
}

# empty COMMAND... is red when the command prints something, and shows it.
empty() {
	local out
	out=$("$@") || {
		printf '%s\n' "$out"
		return 1
	}
	[[ -z $out ]] || {
		printf '%s\n' "$out"
		return 1
	}
}

format() {
	sources >"$tmp/sources"
	local out
	out=$(xargs -0 -r go tool -modfile=tools.mod gofumpt -l <"$tmp/sources")
	if [[ -n $out ]]; then
		printf '%s\n' "$out"
		echo "to fix: go tool -modfile=tools.mod gofumpt -w FILE"
		return 1
	fi
}

fix() {
	empty go fix -diff ./... || {
		echo "to fix: go fix ./..."
		return 1
	}
}

tidy() {
	go mod tidy -diff || {
		echo "to fix: go mod tidy"
		return 1
	}
}

# generated compares the generated files before and after go generate. That
# says the same as git diff on a fresh clone, and isn't confused by work that
# is not committed yet.
generated() {
	local list=(git ls-files -z --cached --others --exclude-standard -- '*_gen.go' '*_gen_test.go')
	"${list[@]}" | xargs -0 -r sha256sum | sort >"$tmp/before"
	go generate ./...
	"${list[@]}" | xargs -0 -r sha256sum | sort >"$tmp/after"
	diff "$tmp/before" "$tmp/after" || {
		echo "generated code was out of date; go generate ./... has just renewed it"
		return 1
	}
	echo "$(wc -l <"$tmp/after") generated files are up to date"
}

static() {
	go build -trimpath -o "$tmp/orrery" .
	if [[ $(go env GOOS) == linux ]]; then
		go run scripts/static.go "$tmp/orrery"
	fi
	"$tmp/orrery" version
}

tests() { go test -timeout 15m ./...; }

# -short leaves out the test that writes 1 GB; the plain run has it.
race() { CGO_ENABLED=1 go test -race -short -timeout 15m ./...; }

# fuzz_one PACKAGE NAME runs one fuzz test for a moment. What it finds is kept by
# go test as a file in testdata/fuzz and named in the output.
fuzz_one() {
	local try
	for try in 1 2 3; do
		timeout -k 10 300 go test -run '^$' -fuzz "^$2\$" -fuzztime "${ORRERY_FUZZ_TIME:-5s}" -parallel 2 "$1" \
			</dev/null 2>&1 | tee "$tmp/fuzz" && return
		# The end of the fuzz time can itself be reported as a failure, without
		# an input that failed (a known weakness of go test): try again.
		if grep -q 'Failing input written' "$tmp/fuzz" || ! grep -q 'context deadline exceeded' "$tmp/fuzz"; then
			return 1
		fi
		echo "try $try ended with its time; no input failed"
	done
	return 1
}

# fuzz finds the fuzz tests. Only packages that have some are asked for their
# names, because asking builds the test binary.
fuzz() {
	local pkg name count=0
	while IFS= read -r pkg; do
		while IFS= read -r name; do
			echo "$pkg $name"
			fuzz_one "$pkg" "$name"
			count=$((count + 1))
		done < <(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true)
	done < <(git grep -l --untracked '^func Fuzz' -- '*_test.go' | xargs -r -n1 dirname | sort -u | sed 's|^|./|')
	echo "$count fuzz tests"
}

demo() { timeout -k 10 300 go run . demo --exit; }

# cluster starts three nodes, kills the leader, and compares them.
cluster() { timeout -k 10 300 scripts/cluster.sh --check --base-port 27700; }

# figures tests what computes the medians, and bench measures a little of everything.
figures() {
	go vet -modfile=tools.mod scripts/perf/*.go
	go test -modfile=tools.mod scripts/perf/*.go
}

bench() { timeout -k 10 300 scripts/bench.sh --quick; }

step "gofumpt" format
step "go vet" go vet ./...
step "staticcheck" tool staticcheck ./...
step "golangci-lint" tool golangci-lint run
step "go fix" fix
step "go mod tidy" tidy
step "generated code" generated
step "static binary" static
step "figures" figures
$skip_tests || step "tests" tests
if ! $fast; then
	step "tests with the race detector" race
	step "fuzzing" fuzz
	step "demo" demo
	step "cluster" cluster
	step "chaos" scripts/chaos.sh --quick
	step "bench" bench
fi
printf '\nall green (%ds)\n' "$SECONDS"
