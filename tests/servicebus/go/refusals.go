package main

import (
	"errors"
	"strings"

	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// What is refused, by which name.
func refusalCases() {
	define("unknown_queue", nil, unknownQueue)
	define("no_session_where_one_is_needed", []string{"session"}, noSessionWhereOneIsNeeded)
	define("session_where_there_are_none", []string{"plain"}, sessionWhereThereAreNone)
	define("too_large", []string{"plain"}, tooLarge)
	define("too_long_an_id", []string{"plain"}, tooLongAnID)
}

func unknownQueue(b *bus) {
	refusedSaying("amqp:not-found", must(b.client.NewSender("nothing", nil)).SendMessage(b, text("m"), nil))
	_, err := must(b.client.NewReceiverForQueue("nothing", nil)).ReceiveMessages(b, 1, nil)
	refusedSaying("amqp:not-found", err)
}

func noSessionWhereOneIsNeeded(b *bus) {
	_, err := b.receiver("session").ReceiveMessages(b, 1, nil)
	refusedSaying("session", err)
	refusedSaying("session", b.sender("session").SendMessage(b, text("of none"), nil))
}

func sessionWhereThereAreNone(b *bus) {
	_, err := b.client.AcceptSessionForQueue(b, b.queue("plain"), "a", nil)
	refusedSaying("session", err)
	// A session's name is a property like others there.
	b.send("plain", of("a", "m")...)
	same(*b.takeOne(b.receiver("plain")).SessionID, "a")
}

func tooLarge(b *bus) {
	sender := b.sender("plain")
	err := sender.SendMessage(b, &sb.Message{Body: make([]byte, 2<<20)}, nil)
	holds(errors.Is(err, sb.ErrMessageTooLarge), err)
	// The sender is of use still.
	check(sender.SendMessage(b, text("small"), nil))
	from := b.receiver("plain")
	same(string(b.takeOne(from).Body), "small")
	b.isEmpty(from)
}

func tooLongAnID(b *bus) {
	sender := b.sender("plain")
	check(sender.SendMessage(b, &sb.Message{Body: []byte("fits"), MessageID: to(strings.Repeat("x", 128))}, nil))
	err := sender.SendMessage(b, &sb.Message{Body: []byte("does not"), MessageID: to(strings.Repeat("x", 129))}, nil)
	holds(err != nil, "an id of 129 characters was taken")
	from := b.receiver("plain")
	same(string(b.takeOne(from).Body), "fits")
	b.isEmpty(from)
}
