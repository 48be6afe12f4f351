// Package config fills the flags of a command that were not given on the command
// line, from the environment and from a YAML file: what stands further left in
// "flag, environment, file, default" wins.
//
// There is one name for each setting, that of its flag. In the environment it is in
// capitals, with ORRERY_ before it and _ for - (ORRERY_HTTP_ADVERTISE); in the file
// it is a key at the top. So flags are declared and documented once, and a setting
// that exists as a flag exists everywhere.
//
// The file is read strictly. What it does not know it refuses, with the line and
// the nearest name, because a setting that is silently ignored is found out at the
// worst moment.
package config
