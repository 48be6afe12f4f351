package fsm

import (
	"context"
	"fmt"

	"github.com/orrery-io/orrery/job"
)

const (
	sqlReadMeta      = "SELECT applied_index, applied_term, last_time, last_id, last_chunk, cluster_id, feed_trimmed, feed_bytes, conf_index, conf, marker_index, marker_term, marker_conf_index, marker_conf FROM meta"
	sqlReadQueues    = "SELECT doc FROM queues ORDER BY name"
	sqlReadAgents    = "SELECT doc FROM agents ORDER BY id"
	sqlReadSchedules = "SELECT doc FROM schedules"
	sqlReadRequests  = "SELECT idx, doc FROM requests ORDER BY idx"
)

// loadState reads what is resident.
func (s *store) loadState(ctx context.Context, to *state) (marker Marker, feedBytes int64, err error) {
	marker, feedBytes, err = s.loadMeta(ctx, to)
	if err != nil {
		return marker, 0, fmt.Errorf("load state: %w", explain(s.path, err))
	}
	if to.index < marker.Index {
		return marker, 0, errDamaged(s.path, fmt.Sprintf("it ends at log index %d, before its own snapshot marker %d", to.index, marker.Index))
	}
	to.schema, s.trimmed = s.version, to.trimmed
	err = s.each(ctx, sqlReadQueues, func(r row) error {
		doc, err := r.scanDoc()
		if err != nil {
			return err
		}
		q, err := decodeDoc[QueueInfo](doc)
		if err == nil {
			to.queues.add(*q)
		}
		return err
	})
	if err != nil {
		return marker, 0, fmt.Errorf("load queues: %w", err)
	}
	err = s.each(ctx, sqlReadAgents, func(r row) error {
		doc, err := r.scanDoc()
		if err != nil {
			return err
		}
		a, err := decodeDoc[job.Agent](doc)
		if err == nil {
			to.agents.fill(a.ID, a)
		}
		return err
	})
	if err != nil {
		return marker, 0, fmt.Errorf("load agents: %w", err)
	}
	if err := s.loadSchedules(ctx, to); err != nil {
		return marker, 0, fmt.Errorf("load schedules: %w", err)
	}
	err = s.each(ctx, sqlReadRequests, func(r row) error {
		var index int64
		doc, err := r.scanDoc(&index)
		if err != nil {
			return err
		}
		rows, err := decodeDoc[requestRows](doc)
		if err != nil {
			return err
		}
		for _, x := range *rows {
			to.requests.remember(uint64(index), x) //nolint:gosec // a log index
		}
		return nil
	})
	if err != nil {
		return marker, 0, fmt.Errorf("load request ids: %w", err)
	}
	return marker, feedBytes, nil
}

// loadSchedules reads all schedules.
func (s *store) loadSchedules(ctx context.Context, to *state) error {
	if s.version < schemaSchedules {
		return nil
	}
	return s.each(ctx, sqlReadSchedules, func(r row) error {
		doc, err := r.scanDoc()
		if err != nil {
			return err
		}
		row, err := decodeDoc[job.Schedule](doc)
		if err == nil {
			to.schedules.fill(row.Name, row)
		}
		return err
	})
}

func (s *store) loadMeta(ctx context.Context, to *state) (marker Marker, feedBytes int64, err error) {
	var index, term, id, trimmed, conf, markerIndex, markerTerm, markerConf int64
	err = s.keyed.QueryRowContext(ctx, sqlReadMeta).Scan(
		&index, &term, &to.lastTime, &id, &to.lastChunk, &to.clusterID, &trimmed, &feedBytes, &conf, &to.conf,
		&markerIndex, &markerTerm, &markerConf, &marker.Configuration,
	)
	to.index, to.term, to.lastID, to.trimmed, to.confIndex = uint64(index), uint64(term), job.ID(id), uint64(trimmed), uint64(conf) //nolint:gosec // log indexes
	marker.Index, marker.Term, marker.ConfigurationIndex = uint64(markerIndex), uint64(markerTerm), uint64(markerConf)              //nolint:gosec // log indexes
	return marker, feedBytes, err
}
