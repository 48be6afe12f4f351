package httpapi

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/orrery-io/orrery/job"
)

// The types below stand in the OpenAPI document for types of package job that
// encode themselves, which huma cannot see from the outside.

// anyJSON is any JSON value.
type anyJSON struct{}

// Schema implements huma.SchemaProvider.
func (anyJSON) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Description: "Any JSON value."}
}

// momentText is a time.
type momentText struct{}

// Schema implements huma.SchemaProvider.
func (momentText) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time", Examples: []any{"2027-01-31T08:00:00.000Z"}}
}

// durationText is a length of time.
type durationText struct{}

// Schema implements huma.SchemaProvider.
func (durationText) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Examples: []any{"1h30m"},
		Pattern: `^([0-9]+d)?([0-9.]+(ms|s|m|h|us|µs|ns))*$`, PatternDescription: "a duration such as 250ms, 30s, 1h30m or 7d",
	}
}

// labelsObject is an object whose values are strings.
type labelsObject struct{}

// Schema implements huma.SchemaProvider.
func (labelsObject) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: &huma.Schema{Type: huma.TypeString}}
}

// stateText is a job's state.
type stateText struct{}

// Schema implements huma.SchemaProvider.
func (stateText) Schema(huma.Registry) *huma.Schema { return oneOf(stateNames()) }

// outcomeText is how an attempt ended.
type outcomeText struct{}

// Schema implements huma.SchemaProvider.
func (outcomeText) Schema(huma.Registry) *huma.Schema {
	var names []string
	for o := job.OutcomeCompleted; o <= job.OutcomeCancelled; o++ {
		names = append(names, o.String())
	}
	return oneOf(names)
}

// statusText of an agent.
type agentStatusText struct{}

// Schema implements huma.SchemaProvider.
func (agentStatusText) Schema(huma.Registry) *huma.Schema {
	var names []string
	for s := job.AgentReady; s <= job.AgentLost; s++ {
		names = append(names, s.String())
	}
	return oneOf(names)
}

// expressionsText is one expression or several.
type expressionsText struct{}

// Schema implements huma.SchemaProvider.
func (expressionsText) Schema(huma.Registry) *huma.Schema {
	one := &huma.Schema{Type: huma.TypeString, MaxLength: new(job.MaxExpression), Examples: []any{"0 3 * * *"}}
	return &huma.Schema{OneOf: []*huma.Schema{one, {Type: huma.TypeArray, Items: one, MinItems: new(1), MaxItems: new(job.MaxExpressions)}}}
}

// catchUpText is what becomes of ticks that could not fire in their time.
type catchUpText struct{}

// Schema implements huma.SchemaProvider.
func (catchUpText) Schema(huma.Registry) *huma.Schema {
	return oneOf(wordsOf(job.CatchUpLast, job.CatchUpAll))
}

// overlapText is what a tick does while jobs of its schedule are open.
type overlapText struct{}

// Schema implements huma.SchemaProvider.
func (overlapText) Schema(huma.Registry) *huma.Schema {
	return oneOf(wordsOf(job.OverlapAllow, job.OverlapCancelRunning))
}

// tickActionText is what a tick did.
type tickActionText struct{}

// Schema implements huma.SchemaProvider.
func (tickActionText) Schema(huma.Registry) *huma.Schema {
	return oneOf(wordsOf(job.TickFired, job.TickBackfilled))
}

// wordsOf are the words for the values from one to another, both included.
func wordsOf[T interface {
	~uint8
	fmt.Stringer
}](from, to T) []string {
	var words []string
	for v := from; v <= to; v++ {
		words = append(words, v.String())
	}
	return words
}

// eventTypeText is what happened.
type eventTypeText struct{}

// Schema implements huma.SchemaProvider.
func (eventTypeText) Schema(huma.Registry) *huma.Schema { return oneOf(job.EventTypes()) }

// eventIDText is the place of an event in the feed.
type eventIDText struct{}

// Schema implements huma.SchemaProvider.
func (eventIDText) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Examples: []any{"1234.0"}, Description: "The index of the log entry, and which of its events it is."}
}

// filterBody is a filter in a body.
type filterBody struct{}

// Schema implements huma.SchemaProvider.
func (filterBody) Schema(huma.Registry) *huma.Schema {
	props := map[string]*huma.Schema{"metadata": labelsObject{}.Schema(nil)}
	for _, p := range filterParams() {
		if strings.HasSuffix(p.name, "*") {
			continue
		}
		s := &huma.Schema{Description: p.doc, Type: huma.TypeString}
		if p.kind == "list" {
			s = &huma.Schema{Description: p.doc, OneOf: []*huma.Schema{
				{Type: huma.TypeString}, {Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString}},
			}}
		}
		props[p.name] = s
	}
	return &huma.Schema{
		Description: "The parameters of GET /v1/jobs: as an object, or as text in the form of a query (type=a&queue=b).",
		OneOf: []*huma.Schema{
			{Type: huma.TypeObject, Properties: props, AdditionalProperties: false},
			{Type: huma.TypeString},
		},
	}
}

// Schema implements huma.SchemaProvider.
func (fileBody) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "binary", Description: "The file that a backup gave."}
}

func oneOf(names []string) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, n := range names {
		s.Enum = append(s.Enum, n)
	}
	return s
}

// newRegistry returns a registry of schemas that knows the types of package job.
func newRegistry() huma.Registry {
	reg := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	for from, to := range map[reflect.Type]reflect.Type{
		typeOf[job.JSON]():        typeOf[anyJSON](),
		typeOf[job.Time]():        typeOf[momentText](),
		typeOf[job.Duration]():    typeOf[durationText](),
		typeOf[job.Labels]():      typeOf[labelsObject](),
		typeOf[job.State]():       typeOf[stateText](),
		typeOf[job.Outcome]():     typeOf[outcomeText](),
		typeOf[job.AgentStatus](): typeOf[agentStatusText](),
		typeOf[job.EventType]():   typeOf[eventTypeText](),
		typeOf[job.EventID]():     typeOf[eventIDText](),
		typeOf[job.Retry]():       typeOf[RetryPolicy](),

		typeOf[job.CatchUpPolicy](): typeOf[catchUpText](),
		typeOf[job.OverlapPolicy](): typeOf[overlapText](),
		typeOf[job.TickAction]():    typeOf[tickActionText](),
	} {
		reg.RegisterTypeAlias(from, to)
	}
	return reg
}

// fieldDocs are what the document says of the fields of types of package job: by
// schema, then by field. Fields of Submission say it in their tags.
func fieldDocs() map[string]map[string]string {
	return map[string]map[string]string{
		"Job": {
			"id":               "Ids grow in the order in which jobs were recorded.",
			"type":             "Selects the handler.",
			"queue":            "The queue that the job waits in.",
			"payload":          "What the handler gets, as it was submitted.",
			"payload_bytes":    "What the handler gets, in base64.",
			"priority":         "0 to 9, higher first.",
			"max_attempts":     "How many executions may fail or time out.",
			"timeout":          "Bounds one attempt.",
			"lease":            "How long the agent may be silent before the attempt is lost; it lengthens the node's own lease (15s) and never shortens it.",
			"expires_at":       "The job ends as expired when it was not started by then.",
			"run_at":           "When the job may first run.",
			"state":            "Where the job stands.",
			"revision":         "Grows by one with every recorded change.",
			"created_at":       "When the submission was recorded.",
			"ready_at":         "When a waiting job may run.",
			"started_at":       "The dispatch of the newest attempt.",
			"finished_at":      "When the job reached its end state.",
			"fence":            "Names the newest attempt; it only grows, and what carries an older one is refused.",
			"agent":            "The agent that has the job, or had it last.",
			"failures":         "Attempts that failed or timed out: what max_attempts bounds.",
			"lost":             "Attempts whose agent vanished.",
			"attempts":         "The newest attempts, oldest first. The last one is open while an agent has the job.",
			"attempts_dropped": "How many older attempts are no longer kept.",
			"result":           "What the handler returned.",
			"result_bytes":     "What the handler returned, in base64.",
			"error":            "Why the job did not end well, or why its last attempt did not.",
			"progress":         "How far the handler says it is.",
			"cancel_requested": "The job was asked to stop and has not yet.",
			"cancel_reason":    "Why it was asked to.",
			"retention":        "How long the job is kept after it ended.",
			"schedule":         "The schedule that made the job.",
			"tick":             "The planned time of its schedule that the job stands for; absent for one made by hand.",
		},
		"Attempt": {
			"number":        "Counts from 1.",
			"fence":         "The log index of the dispatch.",
			"agent":         "Which agent executed it.",
			"node":          "Which node the agent was connected to.",
			"dispatched_at": "When it was given to the agent.",
			"finished_at":   "When it ended; absent while it is open.",
			"outcome":       "How it ended; absent while it is open.",
		},
		"Failure": {
			"kind":      "Groups failures: error, panic, timeout, exit, lost, no_handler, or a word of the handler's own.",
			"message":   "What went wrong.",
			"stack":     "Where, for panics.",
			"exit_code": "Of a process.",
			"permanent": "The handler said not to retry.",
		},
		"Progress": {
			"percent": "0 to 100.",
			"step":    "Which step it is in.",
			"steps":   "Of how many.",
			"message": "In words.",
			"at":      "When this was reported.",
		},
		"Event": {
			"id":       "The place in the feed, the same on every node.",
			"time":     "The leader's clock.",
			"type":     "What happened.",
			"job":      "Which job it is about.",
			"schedule": "Which schedule it is about.",
			"state":    "The job's after the event.",
			"attempt":  "Which attempt it is about.",
			"detail":   "A sentence for people: an error message, a reason.",
		},
		"Schedule": {
			"id":           "Grows in the order in which schedules were made.",
			"name":         "What it is called.",
			"description":  "For people.",
			"expressions":  "When it fires. A moment that several name counts once.",
			"timezone":     "The IANA name of the zone in which they are read.",
			"start":        "Nothing is planned before.",
			"end":          "Nothing is planned at this time or later.",
			"exclude":      "Dates and weekly windows that are left out.",
			"jitter":       "Each tick fires later by something below this that is always the same for the same tick.",
			"catch_up":     "What becomes of ticks that could not fire in their time.",
			"overlap":      "What a tick does while jobs of the schedule have not ended.",
			"template":     "The job that each tick makes.",
			"revision":     "Changes with the definition, pausing and resuming included; ticks leave it alone. The ETag has it.",
			"created_at":   "When it was made.",
			"updated_at":   "When its definition was changed last.",
			"anchor":       "Where intervals count from.",
			"paused":       "Whether it fires nothing for now.",
			"pause_reason": "Why it was paused.",
			"paused_at":    "Since when it has been paused.",
			"paused_until": "When it goes on by itself; absent when it doesn't.",
			"next_at":      "The planned time of the next tick; absent when there is none, and while it is paused without an end.",
			"queued":       "The planned time of the tick that waits for open jobs to end.",
			"open":         "How many of its jobs have not ended.",
			"open_jobs":    "The newest hundred of them, oldest first.",
			"ticks":        "How many planned times came to what.",
			"last_tick":    "The planned time of the newest tick that made a job.",
			"last_job":     "The newest job that it made.",
		},
		"CatchUp": {
			"policy": "last fires the newest one of them, none only one that is at most a minute late, all each of them in order.",
			"window": "How late a tick may be and still fire.",
			"max":    "How many fire at once with all: the newest.",
		},
		"Template": {
			"delay":      "How long after its tick the job may first run.",
			"expires_in": "The job ends as expired when it was not started within this time after its tick.",
		},
		"TickCounts": {
			"fired":   "Made a job, in time or caught up.",
			"missed":  "Were too late for the catch-up policy.",
			"skipped": "Gave way to open jobs, or to a newer tick.",
			"paused":  "Fell into a pause.",
		},
		"TickEntry": {
			"seq":        "Numbers the entries of one schedule.",
			"planned_at": "The planned time, the first one of several.",
			"through":    "The last one of several in a row.",
			"count":      "How many planned times the entry is about.",
			"at_least":   "Nobody counted further.",
			"at":         "When it was recorded.",
			"action":     "What became of them: fired in time; caught_up, which is fired late; missed, too late for the catch-up policy; skipped or queued by the overlap policy (when a queued one fires, a second entry says so); paused; changed, due when the schedule got other times; manual and backfilled, made by hand.",
			"reason":     "Why, in a sentence.",
			"job":        "The job that was made; of several that were backfilled, the first one.",
		},
		"Server": {
			"id":      "The node's id, the same for ever.",
			"address": "Where the other nodes reach it.",
			"voter":   "Whether it counts for majorities; not before it has caught up.",
		},
		"Member": {
			"id":           "The node's id, the same for ever.",
			"address":      "Where the other nodes reach it.",
			"voter":        "Whether it counts for majorities; not before it has caught up.",
			"leader":       "Whether it leads.",
			"http":         "Where its API is.",
			"version":      "Of the program on it.",
			"alive":        "Whether the leader has heard of it lately.",
			"last_contact": "When the leader last has.",
			"applied":      "How much of the log it has applied.",
			"lag":          "How many entries the leader is ahead of that.",
			"installing":   "How much of a copy of the database it has received; absent while it receives none.",
			"trouble":      "What is wrong with its disk; absent when nothing is known to be.",
			"stale":        "There was no leader to ask: this is what the node that answered knows itself.",
			"draining":     "It gives its agents away and takes no new ones.",
		},
		"Installing": {
			"bytes": "How much has arrived.",
			"size":  "How much there is.",
		},
		"Verification": {
			"index":   "The place in the log at which all were compared.",
			"equal":   "Every server that answered has the same rows.",
			"hashes":  "What each server has, by id.",
			"missing": "The servers that did not answer.",
		},
		"FieldError": {
			"pointer":  "A JSON pointer into the body, ?name for a query parameter, or the name of a header.",
			"detail":   "What is wrong there.",
			"position": "Where in the field's text it is, in characters counted from 1; absent when it is about the field as a whole.",
		},
	}
}
