package cron

import (
	"strconv"
	"strings"
)

// quote shows what somebody wrote, cut where it is too long to show.
func quote(s string) string {
	const longest = 40
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	return strconv.Quote(s)
}

// list joins words as a sentence does: "a, b and c".
func list(words []string) string {
	switch n := len(words); n {
	case 0:
		return ""
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
}

// didYouMean ends a sentence that refuses word with the known one that is
// nearest, or with otherwise when none is near.
func didYouMean(word string, known []string, otherwise string) string {
	lower := strings.ToLower(word)
	best, least := "", 1+max(1, len(word)/3)
	if len(word) <= 64 {
		for _, k := range known {
			if d := distance(lower, strings.ToLower(k)); d < least {
				best, least = k, d
			}
		}
		// The last part of a name is what people remember: "Berlin".
		for _, k := range known {
			if best == "" && len(word) >= 3 && strings.HasSuffix(strings.ToLower(k), "/"+strings.ReplaceAll(lower, " ", "_")) {
				best = k
			}
		}
	}
	if best == "" {
		return otherwise
	}
	return "; did you mean " + best + "?"
}

// distance is Levenshtein's: how many letters must be added, dropped or changed.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
