package wire

// capability gives job.Capability on the wire the names that it has in JSON: a row
// uses shorter ones.
type capability struct {
	Type    string `msg:"type"`
	Version string `msg:"version,omitempty"`
}
