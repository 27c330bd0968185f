package main

import (
	"time"

	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// Locks on messages: renewed, lost; and too many deliveries, and time to live.
func lockCases() {
	define("renew_lock", []string{"short"}, renewLock)
	define("lock_lost", []string{"short"}, lockLost)
	define("settled_by_another_link", []string{"plain"}, settledByAnotherLink)
	define("too_many_deliveries", []string{"short"}, tooManyDeliveries)
	define("expired", []string{"ttl"}, expired)
}

func renewLock(b *bus) {
	b.send("short", text("held"))
	from := b.receiver("short")
	message := b.takeOne(from)
	first := *message.LockedUntil
	time.Sleep(3 * time.Second)
	check(from.RenewMessageLock(b, message, nil))
	holds(message.LockedUntil.After(first), message.LockedUntil, " is not behind ", first)
	past(&first)
	b.isEmpty(from)
	check(from.CompleteMessage(b, message, nil))
	same(texts(b.peekAll(from)), []string{})
}

func lockLost(b *bus) {
	b.send("short", text("held"))
	from := b.receiver("short")
	message := b.takeOne(from)
	past(message.LockedUntil)
	refused(sb.CodeLockLost, from.RenewMessageLock(b, message, nil))
	refused(sb.CodeLockLost, from.CompleteMessage(b, message, nil))
	again := b.takeOne(from)
	same(again.DeliveryCount, uint32(2))
	check(from.CompleteMessage(b, again, nil))
}

// A lock belongs to its token: another receiver settles by $management.
func settledByAnotherLink(b *bus) {
	b.send("plain", text("done"), text("dead"))
	from := b.receiver("plain")
	came := b.take(from, 2)
	check(from.Close(b))
	other := b.receiver("plain")
	check(other.CompleteMessage(b, came[0], nil))
	check(other.DeadLetterMessage(b, came[1], &sb.DeadLetterOptions{Reason: to("r"), ErrorDescription: to("d")}))
	same(texts(b.peekAll(other)), []string{})
	letter := b.takeOne(b.letters("plain"))
	same([]string{string(letter.Body), *letter.DeadLetterReason, *letter.DeadLetterErrorDescription}, []string{"dead", "r", "d"})
}

func tooManyDeliveries(b *bus) {
	b.send("short", text("bad"))
	from := b.receiver("short")
	for i := range 3 {
		message := b.takeOne(from)
		same(message.DeliveryCount, uint32(i+1))
		check(from.AbandonMessage(b, message, nil))
	}
	b.isEmpty(from)
	letter := b.takeOne(b.letters("short"))
	same([]string{string(letter.Body), *letter.DeadLetterReason}, []string{"bad", "MaxDeliveryCountExceeded"})
}

func expired(b *bus) {
	hour := text("too")
	hour.TimeToLive = to(time.Hour)
	b.send("ttl", text("stale"), hour)
	came := b.take(b.letters("ttl"), 2)
	same(texts(came), []string{"stale", "too"})
	for _, letter := range came {
		same(*letter.DeadLetterReason, "TTLExpiredException")
	}
	b.isEmpty(b.receiver("ttl"))
}
