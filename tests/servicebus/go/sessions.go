package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// Sessions: exclusive, in order, with a state of their own.
func sessionCases() {
	session, brief := []string{"session"}, []string{"brief-session"}
	define("session_named", session, sessionNamed)
	define("session_next", session, sessionNext)
	define("session_next_when_there_is_none", session, sessionNextWhenThereIsNone)
	define("sessions_interleaved", session, sessionsInterleaved)
	define("session_is_exclusive", session, sessionIsExclusive)
	define("session_state", session, sessionState)
	define("session_renewed", brief, sessionRenewed)
	define("session_lock_lost", brief, sessionLockLost)
	define("sessions_listed", session, sessionsListed)
	define("session_ends_of_messages", session, sessionEndsOfMessages)
}

func of(session string, bodies ...string) []*sb.Message {
	all := []*sb.Message{}
	for _, body := range bodies {
		all = append(all, &sb.Message{Body: []byte(body), SessionID: &session})
	}
	return all
}

func sessionNamed(b *bus) {
	b.send("session", append(of("a", "a0", "a1"), of("b", "b0")...)...)
	from := b.session("session", "a")
	same(from.SessionID(), "a")
	holds(from.LockedUntil().After(time.Now()), from.LockedUntil())
	came := b.take(from, 2)
	same(texts(came), []string{"a0", "a1"})
	same(*came[0].SessionID, "a")
	for _, message := range came {
		check(from.CompleteMessage(b, message, nil))
	}
	// Another session's are not its own.
	b.isEmpty(from)
	same(string(b.takeOne(b.session("session", "b")).Body), "b0")
}

func sessionNext(b *bus) {
	b.send("session", append(of("a", "a0"), of("b", "b0")...)...)
	seen := []string{}
	for range 2 {
		from := must(b.client.AcceptNextSessionForQueue(b, b.queue("session"), nil))
		message := b.takeOne(from)
		same(*message.SessionID, from.SessionID())
		seen = append(seen, from.SessionID()+":"+string(message.Body))
	}
	slices.Sort(seen)
	same(seen, []string{"a:a0", "b:b0"})
}

// The SDK lets its server wait for a minute; its caller gives up before.
func sessionNextWhenThereIsNone(b *bus) {
	ctx, cancel := context.WithTimeout(b, 3*time.Second)
	defer cancel()
	_, err := b.client.AcceptNextSessionForQueue(ctx, b.queue("session"), nil)
	var known *sb.Error
	timeout := errors.As(err, &known) && known.Code == sb.CodeTimeout
	holds(timeout || errors.Is(err, context.DeadlineExceeded), err)
	// The one that gave up holds none that came behind it.
	b.send("session", of("late", "here")...)
	same(string(b.takeOne(b.session("session", "late")).Body), "here")
}

func sessionsInterleaved(b *bus) {
	for i := range 20 {
		b.send("session", append(of("a", fmt.Sprintf("a%d", i)), of("b", fmt.Sprintf("b%d", i))...)...)
	}
	seen := map[string]chan []string{"a": make(chan []string, 1), "b": make(chan []string, 1)}
	for name, done := range seen {
		go func() {
			bodies := []string{}
			defer func() {
				if failure := recover(); failure != nil {
					bodies = append(bodies, fmt.Sprint(failure))
				}
				done <- bodies
			}()
			from := b.session("session", name)
			for len(bodies) < 20 {
				for _, message := range b.takeSome(from) {
					bodies = append(bodies, string(message.Body))
					check(from.CompleteMessage(b, message, nil))
				}
			}
		}()
	}
	same(<-seen["a"], numbered("a", 20))
	same(<-seen["b"], numbered("b", 20))
}

func sessionIsExclusive(b *bus) {
	b.send("session", of("a", "a0")...)
	from := b.session("session", "a")
	_, err := b.client.AcceptSessionForQueue(b, b.queue("session"), "a", nil)
	holds(err != nil, "two have one session")
	same(string(b.takeOne(from).Body), "a0")
	check(from.Close(b))
	// Free as soon as it is closed, and what was locked under it with it, not counted.
	message := b.takeOne(b.session("session", "a"))
	same(string(message.Body), "a0")
	same(message.DeliveryCount, uint32(1))
}

func sessionState(b *bus) {
	from := b.session("session", "a")
	same(len(must(from.GetSessionState(b, nil))), 0)
	check(from.SetSessionState(b, []byte{0, 255}, nil))
	same(must(from.GetSessionState(b, nil)), []byte{0, 255})
	check(from.Close(b))
	// It outlives lock and messages.
	from = b.session("session", "a")
	same(must(from.GetSessionState(b, nil)), []byte{0, 255})
	check(from.SetSessionState(b, nil, nil))
	same(len(must(from.GetSessionState(b, nil))), 0)
}

func sessionRenewed(b *bus) {
	b.send("brief-session", of("a", "a0")...)
	from := b.session("brief-session", "a")
	message := b.takeOne(from)
	first := from.LockedUntil()
	time.Sleep(3 * time.Second)
	check(from.RenewSessionLock(b, nil))
	holds(from.LockedUntil().After(first), from.LockedUntil(), " is not behind ", first)
	past(&first)
	check(from.CompleteMessage(b, message, nil))
	same(texts(b.peekAll(from)), []string{})
}

func sessionLockLost(b *bus) {
	b.send("brief-session", of("a", "a0")...)
	from := b.session("brief-session", "a")
	b.takeOne(from)
	past(to(from.LockedUntil()))
	// To settle by it would show nothing: refused once, the SDK takes its second try for done.
	refused(sb.CodeLockLost, from.RenewSessionLock(b, nil))
	same(string(b.takeOne(b.session("brief-session", "a")).Body), "a0")
}

func sessionsListed(b *bus) {
	listed := func() []string {
		all := []string{}
		pager := b.client.NewListSessionsForQueuePager(b.queue("session"), nil)
		for pager.More() {
			all = append(all, must(pager.NextPage(b)).Sessions...)
		}
		slices.Sort(all)
		return all
	}
	same(listed(), []string{})
	b.send("session", append(of("c", "m"), append(of("a", "m"), of("b", "m")...)...)...)
	same(listed(), []string{"a", "b", "c"})
	a, c := b.session("session", "a"), b.session("session", "b")
	check(a.SetSessionState(b, []byte("kept"), nil))
	check(a.CompleteMessage(b, b.takeOne(a), nil))
	check(c.CompleteMessage(b, b.takeOne(c), nil))
	// One has a state, one has messages.
	same(listed(), []string{"a", "c"})
}

func sessionEndsOfMessages(b *bus) {
	b.send("session", append(of("a", "again", "late", "bad"), of("b", "b0")...)...)
	from := b.session("session", "a")
	same(texts(must(from.PeekMessages(b, 9, nil))), []string{"again", "late", "bad"})
	check(from.AbandonMessage(b, b.takeOne(from), nil))
	again := b.takeOne(from)
	same(again.DeliveryCount, uint32(2))
	check(from.CompleteMessage(b, again, nil))
	late := b.takeOne(from)
	check(from.DeferMessage(b, late, nil))
	check(from.DeadLetterMessage(b, b.takeOne(from), &sb.DeadLetterOptions{Reason: to("Broken")}))
	deferred := must(from.ReceiveDeferredMessages(b, []int64{*late.SequenceNumber}, nil))
	same(texts(deferred), []string{"late"})
	check(from.CompleteMessage(b, deferred[0], nil))
	// The dead letters of sessions are in none.
	letter := b.takeOne(b.letters("session"))
	same([]string{string(letter.Body), *letter.SessionID, *letter.DeadLetterReason}, []string{"bad", "a", "Broken"})
}
