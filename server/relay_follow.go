package server

import (
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"time"

	"github.com/orrery-io/orrery/agentconn"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// streamer asks other nodes for streams; *link.Mesh does.
type streamer interface {
	Stream(ctx context.Context, node, method string, body []byte) iter.Seq2[[]byte, error]
}

// followEvery is how often a follower looks for nodes that it doesn't follow: new
// ones, and those that could not be reached.
const followEvery = time.Second

// FollowLog returns what the job's attempts log and report from now on, on whichever
// node its agent is. The caller closes the Follower.
func (r *relay) FollowLog(id job.ID) *agentconn.Follower {
	f := r.hub.FollowLog(id)
	if r.mesh != nil {
		go r.followElsewhere(f, id)
	}
	return f
}

// followElsewhere shows f what comes from the other nodes, until f is closed.
func (r *relay) followElsewhere(f *agentconn.Follower, id job.ID) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	following := make(map[string]bool)
	ended := make(chan string)
	look := time.NewTicker(followEvery)
	defer look.Stop()
	for {
		for _, node := range r.nodes() {
			if node == r.node || following[node] {
				continue
			}
			following[node] = true
			go func() {
				r.followNode(ctx, f, node, id)
				select {
				case ended <- node:
				case <-ctx.Done():
				}
			}()
		}
		for waiting := true; waiting; {
			select {
			case <-f.Done():
				return
			case node := <-ended:
				delete(following, node) // again at the next look
			case <-look.C:
				waiting = false
			}
		}
	}
}

// followNode shows f what comes from one node, until the stream ends.
func (r *relay) followNode(ctx context.Context, f *agentconn.Follower, node string, id job.ID) {
	for b, err := range r.mesh.Stream(ctx, node, methodFollow, binary.AppendVarint(nil, int64(id))) {
		if err != nil {
			if ctx.Err() == nil {
				r.log.DebugContext(ctx, "log of a job not followed", obs.Node(node), obs.JobID(id), obs.Err(err))
			}
			return
		}
		updates, err := decodeUpdate(b)
		if err != nil {
			r.log.ErrorContext(ctx, "log of a job not understood", obs.Node(node), obs.JobID(id), obs.Err(err))
			return
		}
		for _, u := range updates {
			f.Show(u)
		}
	}
}

// serveFollow shows another node what this node's agents log of a job.
func (r *relay) serveFollow(ctx context.Context, _ string, body []byte, send func([]byte) error) error {
	id, n := binary.Varint(body)
	if n <= 0 {
		return job.Errorf(job.Invalid, "invalid_request", "the request names no job")
	}
	f := r.hub.FollowLog(job.ID(id))
	defer f.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-f.C:
			if !ok {
				return job.ErrClosed
			}
			b, err := encodeUpdate(u)
			if err != nil {
				return err
			}
			if err := send(b); err != nil {
				return err
			}
		}
	}
}

// encodeUpdate writes an update as the number of dropped lines and a frame.
func encodeUpdate(u agentconn.Update) ([]byte, error) {
	var msgs []wire.Message
	if len(u.Lines) > 0 {
		l := &wire.Log{Job: u.Job, Fence: u.Fence, Lines: make([]wire.LogLine, len(u.Lines))}
		for i, x := range u.Lines {
			l.Lines[i] = wire.LogLine{Seq: x.Seq, Time: int64(x.Time), Level: x.Level, Text: x.Text}
		}
		msgs = append(msgs, wire.Message{Log: l})
	}
	if p := u.Progress; p != nil {
		msgs = append(msgs, wire.Message{Progress: &wire.Progress{
			Job: u.Job, Fence: u.Fence, Percent: p.Percent, Step: p.Step, Steps: p.Steps, Message: p.Message,
		}})
	}
	return wire.AppendFrame(binary.AppendUvarint(nil, uint64(max(0, u.Dropped))), wire.Msgpack, msgs)
}

// decodeUpdate is the reverse. Of one update several can come.
func decodeUpdate(b []byte) ([]agentconn.Update, error) {
	dropped, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, errors.New("the number of dropped lines is missing")
	}
	msgs, err := wire.DecodeFrame(wire.Msgpack, b[n:], relayLimits())
	if err != nil {
		return nil, err
	}
	var updates []agentconn.Update
	for _, m := range msgs {
		switch {
		case m.Log != nil:
			u := agentconn.Update{Job: m.Log.Job, Fence: m.Log.Fence, Lines: make([]job.LogLine, len(m.Log.Lines))}
			for i, x := range m.Log.Lines {
				u.Lines[i] = job.LogLine{Seq: x.Seq, Time: job.Time(x.Time), Level: x.Level, Text: x.Text}
			}
			updates = append(updates, u)
		case m.Progress != nil:
			p := m.Progress
			updates = append(updates, agentconn.Update{Job: p.Job, Fence: p.Fence, Progress: &job.Progress{
				Percent: p.Percent, Step: p.Step, Steps: p.Steps, Message: p.Message,
			}})
		}
	}
	if len(updates) > 0 {
		updates[0].Dropped = int(min(dropped, 1<<30))
	}
	return updates, nil
}
