// Package obs holds what logs and metrics have in common across packages: the
// keys of log attributes, each declared once.
//
// A package declares its metrics itself, in one struct built from a
// prometheus.Registerer, named orrery_<package>_<noun>_<unit>.
package obs
