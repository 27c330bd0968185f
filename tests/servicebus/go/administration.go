package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
)

// Queues, topics and subscriptions: made, changed, looked at and deleted by the administration client, over TLS; Go
// trusts the authority by SSL_CERT_FILE.
func administrationCases() {
	define("queue_is_made_and_changed", nil, queueIsMadeAndChanged)
	define("queue_is_of_use_at_once", nil, queueIsOfUseAtOnce)
	define("queue_is_counted", []string{"plain"}, queueIsCounted)
	define("queues_are_listed_by_pages", nil, queuesAreListedByPages)
	define("topic_with_subscriptions", nil, topicWithSubscriptions)
}

func administration() *admin.Client {
	return must(admin.NewClientFromConnectionString(os.Getenv("MENTE_SERVICEBUS_ADMIN"), nil))
}

func refusedWith(status int, err error) {
	var known *azcore.ResponseError
	if !errors.As(err, &known) || known.StatusCode != status {
		panic(fmt.Sprintf("%v and not refused with %d", err, status))
	}
}

func queueIsMadeAndChanged(b *bus) {
	client, name := administration(), b.queue("plain")
	settings := &admin.QueueProperties{
		LockDuration:                        to("PT20S"),
		MaxDeliveryCount:                    to(int32(7)),
		RequiresSession:                     to(true),
		RequiresDuplicateDetection:          to(true),
		DuplicateDetectionHistoryTimeWindow: to("PT3M"),
		DefaultMessageTimeToLive:            to("P2D"),
		DeadLetteringOnMessageExpiration:    to(true),
		AutoDeleteOnIdle:                    to("PT1H"),
		UserMetadata:                        to("<of & ours>"),
		EnableBatchedOperations:             to(false),
		MaxSizeInMegabytes:                  to(int32(2048)),
	}
	must(client.CreateQueue(b, name, &admin.CreateQueueOptions{Properties: settings}))
	queue := must(client.GetQueue(b, name, nil))
	same(queue.QueueName, name)
	same(*queue.LockDuration, "PT20S")
	same(*queue.MaxDeliveryCount, int32(7))
	same([]bool{*queue.RequiresSession, *queue.RequiresDuplicateDetection, *queue.EnableBatchedOperations,
		*queue.DeadLetteringOnMessageExpiration}, []bool{true, true, false, true})
	same([]string{*queue.DuplicateDetectionHistoryTimeWindow, *queue.DefaultMessageTimeToLive, *queue.AutoDeleteOnIdle},
		[]string{"PT3M", "P2D", "PT1H"})
	same(*queue.UserMetadata, "<of & ours>")
	same(*queue.MaxSizeInMegabytes, int32(2048))
	queue.MaxDeliveryCount = to(int32(3))
	must(client.UpdateQueue(b, name, queue.QueueProperties, nil))
	same(*must(client.GetQueue(b, name, nil)).MaxDeliveryCount, int32(3))
	// What a queue is at birth it stays.
	queue.RequiresSession = to(false)
	_, err := client.UpdateQueue(b, name, queue.QueueProperties, nil)
	refusedWith(400, err)
	_, err = client.CreateQueue(b, name, nil)
	refusedWith(409, err)
	must(client.DeleteQueue(b, name, nil))
	holds(must(client.GetQueue(b, name, nil)) == nil, "it is there still")
	_, err = client.DeleteQueue(b, name, nil)
	refusedWith(404, err)
}

func queueIsOfUseAtOnce(b *bus) {
	name := b.queue("plain")
	must(administration().CreateQueue(b, name, nil))
	b.send("plain", text("m"))
	same(string(b.takeOne(b.receiver("plain")).Body), "m")
}

func queueIsCounted(b *bus) {
	for _, body := range numbered("", 5) {
		b.send("plain", text(body))
	}
	due := time.Now().Add(time.Hour)
	must(b.sender("plain").ScheduleMessages(b, []*sb.Message{text("later")}, due, nil))
	from := b.receiver("plain")
	came := b.take(from, 2)
	check(from.DeadLetterMessage(b, came[0], nil))
	check(from.CompleteMessage(b, came[1], nil))
	b.takeOne(b.letters("plain"))
	counts := must(administration().GetQueueRuntimeProperties(b, b.queue("plain"), nil))
	same([]int32{counts.ActiveMessageCount, counts.DeadLetterMessageCount, counts.ScheduledMessageCount}, []int32{3, 1, 1})
	same(counts.TotalMessageCount, int64(5))
	holds(time.Since(counts.CreatedAt).Abs() < time.Hour, counts.CreatedAt)
}

func queuesAreListedByPages(b *bus) {
	client := administration()
	wanted := numbered(b.queue("plain")+".", 30)
	for _, name := range wanted {
		must(client.CreateQueue(b, name, nil))
	}
	found := []string{}
	pager := client.NewListQueuesPager(&admin.ListQueuesOptions{MaxPageSize: 7})
	for pager.More() {
		page := must(pager.NextPage(b)).Queues
		holds(len(page) <= 7, "a page of ", len(page))
		for _, queue := range page {
			found = append(found, queue.QueueName)
		}
	}
	for _, name := range wanted {
		holds(slices.Contains(found, name), name, " is not listed")
	}
	slices.Sort(found)
	same(len(slices.Compact(found)), len(found))
}

func topicWithSubscriptions(b *bus) {
	client, topic := administration(), b.queue("topic")
	must(client.CreateTopic(b, topic, &admin.CreateTopicOptions{Properties: &admin.TopicProperties{UserMetadata: to("t")}}))
	same(*must(client.GetTopic(b, topic, nil)).UserMetadata, "t")
	settings := &admin.SubscriptionProperties{LockDuration: to("PT15S"), MaxDeliveryCount: to(int32(4))}
	must(client.CreateSubscription(b, topic, "one", &admin.CreateSubscriptionOptions{Properties: settings}))
	one := must(client.GetSubscription(b, topic, "one", nil))
	same([]string{one.TopicName, one.SubscriptionName, *one.LockDuration}, []string{topic, "one", "PT15S"})
	same(*one.MaxDeliveryCount, int32(4))
	b.send("topic", text("m"), text("n"))
	same(texts(b.take(must(b.client.NewReceiverForSubscription(topic, "one", nil)), 2)), []string{"m", "n"})
	same(must(client.GetSubscriptionRuntimeProperties(b, topic, "one", nil)).ActiveMessageCount, int32(2))
	_, err := client.CreateSubscription(b, topic, "one", nil)
	refusedWith(409, err)
	must(client.DeleteSubscription(b, topic, "one", nil))
	holds(must(client.GetSubscription(b, topic, "one", nil)) == nil, "it is there still")
	must(client.DeleteTopic(b, topic, nil))
	holds(must(client.GetTopic(b, topic, nil)) == nil, "it is there still")
}
