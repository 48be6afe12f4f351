// Package spelling finds what was meant by a word that is not known: a field, a
// parameter, a setting with a typing error. It is a leaf: it imports nothing of
// ours.
package spelling
