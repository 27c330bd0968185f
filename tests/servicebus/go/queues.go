package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// Sending, receiving, and the ends that a message has.
func queueCases() {
	plain := []string{"plain"}
	define("send_and_complete", plain, sendAndComplete)
	define("send_batch", plain, sendBatch)
	define("batch_has_an_end", plain, batchHasAnEnd)
	define("abandon", plain, abandon)
	define("dead_letter", plain, deadLetter)
	define("defer", plain, deferMessage)
	define("receive_and_delete", plain, receiveAndDelete)
	define("peek", plain, peek)
	define("schedule", plain, schedule)
	define("schedule_and_cancel", plain, scheduleAndCancel)
	define("scheduled_by_its_property", plain, scheduledByItsProperty)
	define("receivers_share", plain, receiversShare)
	define("waiting_receiver", plain, waitingReceiver)
	define("duplicates", []string{"dedup"}, duplicates)
	define("topic_to_each_subscription", []string{"topic"}, topicToEachSubscription)
}

func sendAndComplete(b *bus) {
	b.send("plain", text("one"))
	from := b.receiver("plain")
	message := b.takeOne(from)
	same(string(message.Body), "one")
	// This SDK counts the delivery at hand too.
	same(message.DeliveryCount, uint32(1))
	holds(*message.SequenceNumber > 0, *message.SequenceNumber)
	holds(message.LockToken != [16]byte{}, "no lock token")
	holds(message.LockedUntil.After(*message.EnqueuedTime), message.LockedUntil)
	holds(time.Since(*message.EnqueuedTime).Abs() < time.Minute, message.EnqueuedTime)
	check(from.CompleteMessage(b, message, nil))
	b.isEmpty(from)
	same(texts(b.peekAll(from)), []string{})
}

func sendBatch(b *bus) {
	sender := b.sender("plain")
	batch := must(sender.NewMessageBatch(b, nil))
	for i := range 100 {
		message := text(fmt.Sprint(i))
		message.MessageID = to(fmt.Sprintf("id-%d", i))
		check(batch.AddMessage(message, nil))
	}
	same(batch.NumMessages(), int32(100))
	check(sender.SendMessageBatch(b, batch, nil))
	came := b.take(b.receiver("plain"), 100)
	same(texts(came), numbered("", 100))
	for i, message := range came {
		same(message.MessageID, fmt.Sprintf("id-%d", i))
		same(*message.SequenceNumber, *came[0].SequenceNumber+int64(i))
	}
}

func batchHasAnEnd(b *bus) {
	sender := b.sender("plain")
	batch := must(sender.NewMessageBatch(b, &sb.MessageBatchOptions{MaxBytes: 1000}))
	count := 0
	for batch.AddMessage(text(strings.Repeat("a", 300)), nil) == nil {
		count++
		holds(count < 4, "a batch of 1,000 bytes takes ", count, " bodies of 300")
	}
	same(batch.AddMessage(text(strings.Repeat("a", 300)), nil), sb.ErrMessageTooLarge)
	holds(count > 0, "it takes none")
	check(sender.SendMessageBatch(b, batch, nil))
	from := b.receiver("plain")
	b.take(from, count)
	b.isEmpty(from)
}

func abandon(b *bus) {
	first := text("first")
	first.ApplicationProperties = map[string]any{"kept": int64(1), "changed": "a"}
	b.send("plain", first, text("second"))
	from := b.receiver("plain")
	message := b.takeOne(from)
	same(message.DeliveryCount, uint32(1))
	changes := &sb.AbandonMessageOptions{PropertiesToModify: map[string]any{"changed": "b", "added": true}}
	check(from.AbandonMessage(b, message, changes))
	// Back in its place, not behind the other one.
	again := b.takeOne(from)
	same(string(again.Body), "first")
	same(again.DeliveryCount, uint32(2))
	same(*again.SequenceNumber, *message.SequenceNumber)
	same(again.ApplicationProperties, map[string]any{"kept": int64(1), "changed": "b", "added": true})
	holds(again.LockToken != message.LockToken, "the same lock")
	check(from.CompleteMessage(b, again, nil))
	same(string(b.takeOne(from).Body), "second")
}

func deadLetter(b *bus) {
	bad := text("bad")
	bad.MessageID = to("m")
	bad.ApplicationProperties = map[string]any{"kept": "yes"}
	b.send("plain", bad)
	from := b.receiver("plain")
	options := &sb.DeadLetterOptions{
		Reason:             to("Broken"),
		ErrorDescription:   to("it does not parse"),
		PropertiesToModify: map[string]any{"added": "x"},
	}
	check(from.DeadLetterMessage(b, b.takeOne(from), options))
	b.isEmpty(from)
	letters := b.letters("plain")
	letter := b.takeOne(letters)
	same([]string{string(letter.Body), letter.MessageID}, []string{"bad", "m"})
	same([]string{*letter.DeadLetterReason, *letter.DeadLetterErrorDescription}, []string{"Broken", "it does not parse"})
	same([]any{letter.ApplicationProperties["kept"], letter.ApplicationProperties["added"]}, []any{"yes", "x"})
	b.send("plain", letter.Message())
	check(letters.CompleteMessage(b, letter, nil))
	same(texts(b.peekAll(letters)), []string{})
	same(string(b.takeOne(from).Body), "bad")
}

func deferMessage(b *bus) {
	b.send("plain", text("late"), text("now"))
	from := b.receiver("plain")
	message := b.takeOne(from)
	check(from.DeferMessage(b, message, &sb.DeferMessageOptions{PropertiesToModify: map[string]any{"why": "not yet"}}))
	now := b.takeOne(from)
	same(string(now.Body), "now")
	check(from.CompleteMessage(b, now, nil))
	b.isEmpty(from)
	peeked := b.peekAll(from)
	same(texts(peeked), []string{"late"})
	same(peeked[0].State, sb.MessageStateDeferred)
	numbers := []int64{*message.SequenceNumber}
	deferred := must(from.ReceiveDeferredMessages(b, numbers, nil))
	same(texts(deferred), []string{"late"})
	same(deferred[0].ApplicationProperties["why"], any("not yet"))
	check(from.CompleteMessage(b, deferred[0], nil))
	_, err := from.ReceiveDeferredMessages(b, numbers, nil)
	holds(err != nil, "a message that is done with was received")
	same(texts(b.peekAll(from)), []string{})
}

func receiveAndDelete(b *bus) {
	b.send("plain", text("one"), text("two"))
	options := &sb.ReceiverOptions{ReceiveMode: sb.ReceiveModeReceiveAndDelete}
	from := must(b.client.NewReceiverForQueue(b.queue("plain"), options))
	same(texts(b.take(from, 2)), []string{"one", "two"})
	same(texts(b.peekAll(from)), []string{})
	b.isEmpty(from)
}

func peek(b *bus) {
	for _, body := range numbered("", 5) {
		b.send("plain", text(body))
	}
	from := b.receiver("plain")
	peeked := must(from.PeekMessages(b, 3, nil))
	same(texts(peeked), numbered("", 3))
	same(peeked[0].State, sb.MessageStateActive)
	// It goes on behind.
	same(texts(must(from.PeekMessages(b, 9, nil))), []string{"3", "4"})
	second := &sb.PeekMessagesOptions{FromSequenceNumber: peeked[1].SequenceNumber}
	same(texts(must(from.PeekMessages(b, 9, second))), []string{"1", "2", "3", "4"})
	// Nothing was locked, and what is locked is shown.
	message := b.takeOne(from)
	same(string(message.Body), "0")
	same(message.DeliveryCount, uint32(1))
	same(texts(b.peekAll(from)), numbered("", 5))
}

func schedule(b *bus) {
	due := time.Now().Add(3 * time.Second)
	sender := b.sender("plain")
	numbers := must(sender.ScheduleMessages(b, []*sb.Message{text("a"), text("b")}, due, nil))
	same(len(numbers), 2)
	from := b.receiver("plain")
	for i, message := range b.peekAll(from) {
		same(*message.SequenceNumber, numbers[i])
		same(message.State, sb.MessageStateScheduled)
	}
	came := b.take(from, 2)
	bodies := texts(came)
	slices.Sort(bodies)
	same(bodies, []string{"a", "b"})
	holds(!time.Now().Before(due), "too early")
	holds(came[0].EnqueuedTime.After(due.Add(-time.Millisecond)), came[0].EnqueuedTime)
}

func scheduleAndCancel(b *bus) {
	due := time.Now().Add(time.Hour)
	sender := b.sender("plain")
	numbers := must(sender.ScheduleMessages(b, []*sb.Message{text("kept"), text("gone")}, due, nil))
	check(sender.CancelScheduledMessages(b, numbers[1:], nil))
	holds(sender.CancelScheduledMessages(b, numbers[1:], nil) != nil, "it was cancelled twice")
	peeked := b.peekAll(b.receiver("plain"))
	same(texts(peeked), []string{"kept"})
	same(*peeked[0].SequenceNumber, numbers[0])
	same(peeked[0].ScheduledEnqueueTime.UnixMilli(), due.UnixMilli())
}

func scheduledByItsProperty(b *bus) {
	due := time.Now().Add(3 * time.Second)
	later := text("later")
	later.ScheduledEnqueueTime = &due
	b.send("plain", later, text("now"))
	same(texts(b.take(b.receiver("plain"), 2)), []string{"now", "later"})
	holds(!time.Now().Before(due), "too early")
}

func receiversShare(b *bus) {
	var everyone, senders sync.WaitGroup
	failures := make(chan any, 8)
	var lock sync.Mutex
	seen := []string{}
	start := func(group *sync.WaitGroup, work func()) {
		group.Go(func() {
			defer func() {
				if failure := recover(); failure != nil {
					failures <- failure
				}
			}()
			work()
		})
	}
	for who := range 4 {
		start(&senders, func() {
			for _, body := range numbered(fmt.Sprintf("%d-", who), 25) {
				b.send("plain", text(body))
			}
		})
	}
	for range 3 {
		start(&everyone, func() {
			from := b.receiver("plain")
			for !func() bool { lock.Lock(); defer lock.Unlock(); return len(seen) >= 100 }() {
				for _, message := range b.takeSome(from) {
					check(from.CompleteMessage(b, message, nil))
					lock.Lock()
					seen = append(seen, string(message.Body))
					lock.Unlock()
				}
			}
		})
	}
	senders.Wait()
	everyone.Wait()
	select {
	case failure := <-failures:
		panic(failure)
	default:
	}
	wanted := []string{}
	for who := range 4 {
		wanted = append(wanted, numbered(fmt.Sprintf("%d-", who), 25)...)
	}
	slices.Sort(seen)
	slices.Sort(wanted)
	same(seen, wanted)
}

func waitingReceiver(b *bus) {
	from := b.receiver("plain")
	came := make(chan []*sb.ReceivedMessage)
	go func() {
		messages, _ := from.ReceiveMessages(b, 1, nil)
		came <- messages
	}()
	time.Sleep(time.Second)
	b.send("plain", text("here"))
	same(texts(<-came), []string{"here"})
}

func duplicates(b *bus) {
	with := func(body, id string) *sb.Message {
		return &sb.Message{Body: []byte(body), MessageID: &id}
	}
	b.send("dedup", with("first", "a"), with("again", "a"), with("b", "b"))
	from := b.receiver("dedup")
	for _, body := range []string{"first", "b"} {
		message := b.takeOne(from)
		same(string(message.Body), body)
		check(from.CompleteMessage(b, message, nil))
	}
	// Done with, and known still.
	b.send("dedup", with("too late", "a"), with("c", "c"))
	same(string(b.takeOne(from).Body), "c")
	b.isEmpty(from)
}

func topicToEachSubscription(b *bus) {
	topic := b.queue("topic")
	message := text("a")
	message.Subject = to("s")
	b.send("topic", message, text("b"))
	for _, name := range []string{"one", "two"} {
		from := must(b.client.NewReceiverForSubscription(topic, name, nil))
		came := b.take(from, 2)
		same(texts(came), []string{"a", "b"})
		same(*came[0].Subject, "s")
		check(from.CompleteMessage(b, came[1], nil))
		if name == "one" {
			check(from.DeadLetterMessage(b, came[0], &sb.DeadLetterOptions{Reason: to("Broken")}))
		}
	}
	dead := &sb.ReceiverOptions{SubQueue: sb.SubQueueDeadLetter}
	letters := must(b.client.NewReceiverForSubscription(topic, "one", dead))
	same(*b.takeOne(letters).DeadLetterReason, "Broken")
	b.isEmpty(must(b.client.NewReceiverForSubscription(topic, "two", dead)))
}
