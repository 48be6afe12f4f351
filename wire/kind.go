package wire

// Kind returns the name of the message's kind, such as "hello", and "" for a
// message of a kind that this program does not know.
func (m *Message) Kind() string {
	kind, _ := m.kinds()
	return kind
}

// kinds returns the name of the first kind that is set, and how many are.
func (m *Message) kinds() (first string, n int) {
	set := func(is bool, name string) {
		if !is {
			return
		}
		if n == 0 {
			first = name
		}
		n++
	}
	set(m.Hello != nil, "hello")
	set(m.Ack != nil, "ack")
	set(m.Reject != nil, "reject")
	set(m.Start != nil, "start")
	set(m.Progress != nil, "progress")
	set(m.Log != nil, "log")
	set(m.Result != nil, "result")
	set(m.Heartbeat != nil, "heartbeat")
	set(m.Welcome != nil, "welcome")
	set(m.Dispatch != nil, "dispatch")
	set(m.ResultAck != nil, "result_ack")
	set(m.Cancel != nil, "cancel")
	set(m.Beat != nil, "beat")
	set(m.Nodes != nil, "nodes")
	set(m.Error != nil, "error")
	set(m.Drain != nil, "drain")
	set(m.Bye != nil, "bye")
	return first, n
}
