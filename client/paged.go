package client

import (
	"iter"
	"maps"
	"net/url"
	"strconv"
)

// paged yields the items of a list, page after page, up to limit of them; zero means
// all. A page has size items, 100 when that is zero. fetch gets the query of a page
// and returns where the next one begins.
func paged[T any](limit, size int, q url.Values, fetch func(url.Values) ([]T, string, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		q := maps.Clone(q) // one walk through the list may change it
		if size <= 0 {
			size = 100
		}
		for left := limit; ; {
			ask := size
			if limit > 0 {
				ask = min(size, left)
			}
			q.Set("limit", strconv.Itoa(ask))
			items, cursor, err := fetch(q)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, x := range items {
				if !yield(x, nil) {
					return
				}
			}
			left -= len(items)
			if cursor == "" || limit > 0 && left <= 0 {
				return
			}
			q.Set("cursor", cursor)
		}
	}
}
