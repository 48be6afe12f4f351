package cluster

import "maps"

// Handlers returns what this node answers to the other ones, by method. They may be
// called as soon as New has returned; until Run has started raft most of them answer
// that there is no leader.
func (n *Node) Handlers() map[string]Handler {
	all := map[string]Handler{}
	maps.Copy(all, n.memberHandlers())
	maps.Copy(all, n.proposeHandlers())
	maps.Copy(all, n.readHandlers())
	maps.Copy(all, n.noticeHandlers())
	maps.Copy(all, n.restoreHandlers())
	maps.Copy(all, n.hashHandlers())
	return all
}
