// Package builtin holds the job handlers that come with Orrery: echo, sleep and
// fail, with which one can try things out, and exec, which runs a program.
//
// Their payloads are strict: an unknown field or a wrong type fails the job for
// good with the kind "bad_payload" and a sentence that says what is wrong.
package builtin
