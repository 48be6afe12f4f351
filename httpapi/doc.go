// Package httpapi is what people and programs speak with: the REST API under /v1,
// its streams (server-sent events and NDJSON), health, metrics, the OpenAPI
// document and the page that shows it.
//
// Every route is one line of a table (see route): method, path, the parameters it
// knows, the Go types of its bodies, and its handler. The same line registers the
// handler on the standard mux, tells which query parameters to refuse, and becomes
// the operation in the OpenAPI 3.1 document, whose schemas huma derives from the
// Go types; so the three cannot disagree.
//
// Bodies are read by a strict decoder of our own (decode.go, scan.go) rather than
// by huma's validation: it refuses unknown fields naming the nearest, duplicate
// fields and invalid UTF-8, points at every mistake with a JSON pointer, and costs
// no reflection on the path of POST /v1/jobs.
//
// A handler returns an error; errors.go alone turns kinds of errors into statuses
// and writes application/problem+json (RFC 9457). What is not meant for clients is
// logged under a reference, and the client gets the reference.
//
// Reading is done from fsm, on any node; changing things is proposed to the
// cluster. Nothing here keeps state besides open streams and waiters.
package httpapi
