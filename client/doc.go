// Package client speaks with the nodes of Orrery over HTTP: it submits jobs,
// waits for them, lists and changes them, reads their logs, has schedules make
// them, and follows the feed of everything that happens.
//
//	c, err := client.New(client.Config{Addr: "http://127.0.0.1:7700"})
//	j, err := c.SubmitAndWait(ctx, client.Submission{
//		Type:    "email.send",
//		Payload: map[string]string{"to": "ada@example.org"},
//	})
//	if err == nil && j.State == job.Completed {
//		fmt.Printf("%s\n", j.Result)
//	}
//
// A Client may be used by many goroutines. It is given one address or several of
// one cluster; when a node does not answer, it goes on to the next. What can be
// repeated without harm is repeated once: everything that only reads, and
// submissions, which carry a request id (or your idempotency key) by which the
// cluster recognises them. While the cluster says that it is overloaded (429), a
// request waits as long as it is asked to and is sent again, for up to
// Config.Timeout.
//
// Every failure is an *Error, whether a node answered with a problem or no node
// answered at all. It matches the sentinels of package job:
//
//	if errors.Is(err, job.ErrJobNotFound) { … }
//
// Times and durations are those of package job: 30*job.Second, job.For(d),
// job.At(t).
package client
