package main

import (
	"bytes"
	"time"

	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// What a message holds comes back as it was sent.
func messageCases() {
	plain := []string{"plain"}
	define("properties", plain, properties)
	define("nothing_but_a_body", plain, nothingButABody)
	define("application_properties", plain, applicationProperties)
	define("bodies", plain, bodies)
	define("annotated", plain, annotated)
	define("large", plain, large)
	define("larger_than_an_event", []string{"large"}, largerThanAnEvent)
}

func properties(b *bus) {
	b.send("plain", &sb.Message{
		Body:             []byte{0, 255},
		MessageID:        to("the id"),
		CorrelationID:    to("correlated"),
		Subject:          to("a subject"),
		ContentType:      to("application/x-test; charset=utf-8"),
		PartitionKey:     to("key"),
		To:               to("there"),
		ReplyTo:          to("here"),
		ReplyToSessionID: to("back"),
		TimeToLive:       to(5 * time.Minute),
	})
	message := b.takeOne(b.receiver("plain"))
	same(message.Body, []byte{0, 255})
	same(message.MessageID, "the id")
	same(*message.CorrelationID, "correlated")
	same(*message.Subject, "a subject")
	same(*message.ContentType, "application/x-test; charset=utf-8")
	same(*message.PartitionKey, "key")
	same(*message.To, "there")
	same(*message.ReplyTo, "here")
	same(*message.ReplyToSessionID, "back")
	same(*message.TimeToLive, 5*time.Minute)
	holds(message.SessionID == nil, "a session")
	expires := message.EnqueuedTime.Add(5 * time.Minute)
	holds(message.ExpiresAt.Sub(expires).Abs() < time.Second, message.ExpiresAt)
}

func nothingButABody(b *bus) {
	b.send("plain", text("bare"))
	message := b.takeOne(b.receiver("plain"))
	for _, field := range []*string{message.Subject, message.ContentType, message.To, message.ReplyTo,
		message.CorrelationID, message.SessionID, message.PartitionKey} {
		holds(field == nil, "a property that nobody sent")
	}
	same(len(message.ApplicationProperties), 0)
}

// Each type that the SDK sends.
func applicationProperties(b *bus) {
	sent := map[string]any{
		"text": "tëxt", "empty": "", "bytes": []byte{0, 255}, "none": nil,
		"true": true, "false": false,
		"uint8": uint8(8), "uint16": uint16(16), "uint32": uint32(32), "uint64": uint64(1) << 63,
		"int8": int8(-8), "int16": int16(-16), "int32": int32(-32), "int64": int64(-1) << 40,
		"float32": float32(1.25), "float64": 1.1,
	}
	message := text("m")
	message.ApplicationProperties = sent
	moment := time.Date(2030, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	message.ApplicationProperties["moment"] = moment
	b.send("plain", message)
	came := b.takeOne(b.receiver("plain")).ApplicationProperties
	same(came["moment"].(time.Time).UnixMilli(), moment.UnixMilli())
	delete(came, "moment")
	delete(sent, "moment")
	same(came, sent)
}

func bodies(b *bus) {
	sender := b.sender("plain")
	sent := []sb.AMQPAnnotatedMessageBody{
		{Data: [][]byte{[]byte("one"), []byte("two"), {}}},
		{Value: map[string]any{"a": int64(1), "b": []any{"x", nil, true}}},
		{Value: "text"},
		{Value: int32(5)},
		{Sequence: [][]any{{int64(1), "x"}, {}, {true}}},
	}
	for _, body := range sent {
		check(sender.SendAMQPAnnotatedMessage(b, &sb.AMQPAnnotatedMessage{Body: body}, nil))
	}
	for i, message := range b.take(b.receiver("plain"), len(sent)) {
		came := message.RawAMQPMessage.Body
		same(len(came.Data), len(sent[i].Data))
		for j, section := range came.Data {
			holds(bytes.Equal(section, sent[i].Data[j]), "section ", j, ": ", section)
		}
		same(came.Value, sent[i].Value)
		same(len(came.Sequence), len(sent[i].Sequence))
		for j, section := range came.Sequence {
			same(len(section), len(sent[i].Sequence[j]))
			for k, item := range section {
				same(item, sent[i].Sequence[j][k])
			}
		}
	}
}

func annotated(b *bus) {
	check(b.sender("plain").SendAMQPAnnotatedMessage(b, &sb.AMQPAnnotatedMessage{
		Body:   sb.AMQPAnnotatedMessageBody{Data: [][]byte{[]byte("m")}},
		Header: &sb.AMQPAnnotatedMessageHeader{Priority: 7, Durable: true},
		Properties: &sb.AMQPAnnotatedMessageProperties{
			MessageID: uint64(42), CorrelationID: "c", ContentEncoding: to("identity"),
			UserID: []byte("somebody"), Subject: to("s"), GroupSequence: to(uint32(9)),
		},
		ApplicationProperties: map[string]any{"a": int64(1)},
		MessageAnnotations:    map[any]any{"x-opt-mine": "theirs", "x-number": int32(5)},
		Footer:                map[any]any{"checked": "by nobody"},
	}, nil))
	raw := b.takeOne(b.receiver("plain")).RawAMQPMessage
	same(raw.Header.Priority, uint8(7))
	same(raw.Header.Durable, true)
	same(raw.Properties.MessageID, any(uint64(42)))
	same(raw.Properties.CorrelationID, any("c"))
	same(*raw.Properties.ContentEncoding, "identity")
	same(raw.Properties.UserID, []byte("somebody"))
	same(*raw.Properties.GroupSequence, uint32(9))
	same(raw.ApplicationProperties, map[string]any{"a": int64(1)})
	same(raw.MessageAnnotations["x-opt-mine"], any("theirs"))
	same(raw.MessageAnnotations["x-number"], any(int32(5)))
	same(raw.Footer["checked"], any("by nobody"))
}

func large(b *bus) {
	body := bytes.Repeat([]byte("0123456789"), 90_000)
	b.send("plain", text("before"), &sb.Message{Body: body}, text("behind"))
	from := b.receiver("plain")
	came := b.takeInTurn(from, 3)
	same([]string{string(came[0].Body), string(came[2].Body)}, []string{"before", "behind"})
	holds(bytes.Equal(came[1].Body, body), "another body")
	holds(bytes.Equal(b.peekAll(from)[1].Body, body), "another body when peeked at")
}

func largerThanAnEvent(b *bus) {
	body := bytes.Repeat([]byte("0123456789"), 500_000)
	b.send("large", text("before"), &sb.Message{Body: body}, text("behind"))
	came := b.takeInTurn(b.receiver("large"), 3)
	same([]string{string(came[0].Body), string(came[2].Body)}, []string{"before", "behind"})
	holds(bytes.Equal(came[1].Body, body), "another body")
}
