package httpapi

import (
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/orrery-io/orrery/internal/spelling"
)

// route is everything there is to know about one route. Handler and documentation
// are made from the same value, see the package comment.
type route struct {
	method, path string
	// id names the operation in the OpenAPI document, summary and doc describe it,
	// tag groups it.
	id, summary, doc, tag string
	// open means that no token is needed.
	open bool
	// params are the query and header parameters, and those of the path. A query
	// parameter that is not among them is refused.
	params []param
	// body is the type of the request's body, nil for none; bodyTypes are its media
	// types, application/json when empty.
	body      reflect.Type
	bodyTypes []string
	optional  bool
	// answers are the successes; refusals are the statuses of problems besides
	// those that every route may answer with.
	answers  []answer
	refusals []int
	// curl is an example: what follows "curl" and a blank, with $ORRERY for the
	// node's address.
	curl   string
	handle handler
}

// handler answers a request. An error that it returns becomes a problem.
type handler func(w *response, r *http.Request, q *query) error

// param is one parameter. The zero in means query.
type param struct {
	name, in, doc string
	// kind is string, integer, boolean, moment, duration or list.
	kind    string
	values  []string
	def     any
	example any
}

// answer is one success.
type answer struct {
	status int
	doc    string
	// body is the type of the JSON body; nil for none. media are other media types
	// in which the answer is available, and what they hold.
	body  reflect.Type
	media map[string]string
}

func (rt *route) pattern() string { return rt.method + " " + rt.path }

// queryNames are the names for parseQuery.
func (rt *route) queryNames() []string {
	var names []string
	for _, p := range rt.params {
		if p.in == "" {
			names = append(names, p.name)
		}
	}
	return names
}

// pathParams are the names in braces.
func (rt *route) pathParams() []string {
	var names []string
	for part := range strings.SplitSeq(rt.path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			names = append(names, strings.TrimSuffix(name, "}"))
		}
	}
	return names
}

// register puts the routes on the mux.
func (a *API) register(mux *http.ServeMux, routes []route) {
	for i := range routes {
		rt := &routes[i]
		names := rt.queryNames()
		mux.HandleFunc(rt.pattern(), func(rw http.ResponseWriter, r *http.Request) {
			w, ok := rw.(*response)
			if !ok {
				w = &response{ResponseWriter: rw}
			}
			if err := a.guard.admit(r, rt.open); err != nil {
				a.refuse(w, r, err)
				return
			}
			q, err := parseQuery(r.URL.RawQuery, names)
			if err == nil {
				err = rt.handle(w, r, q)
			}
			if err != nil {
				a.refuse(w, r, err)
			}
		})
	}
}

// unrouted answers what no route takes: 405 when another method would do, else
// 404.
func (a *API) unrouted(r *http.Request) error {
	// What is refused must not tell a stranger which routes there are.
	if err := a.guard.admit(r, false); err != nil {
		return err
	}
	var allow []string
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		c := *r
		c.Method = m
		if _, pattern := a.mux.Handler(&c); pattern != "" && pattern != "/" {
			allow = append(allow, m)
		}
	}
	if len(allow) > 0 {
		return errMethod(r.Method, r.URL.Path, strings.Join(allow, ", "))
	}
	return errNoRoute(clip(r.Method), r.URL.Path, a.nearestRoute(r.URL.Path))
}

func (a *API) nearestRoute(path string) string {
	var known []string
	for i := range a.routes {
		if !slices.Contains(known, a.routes[i].path) {
			known = append(known, a.routes[i].path)
		}
	}
	if near := spelling.Nearest(path, known); near != "" {
		return near
	}
	// The prefix of the version is what people forget.
	if near := spelling.Nearest("/v1"+path, known); near != "" {
		return near
	}
	return ""
}
