// Cases against a Service Bus, with azservicebus as it is published.
//
// servicebus run [CASE...]: one line a case, `ok CASE` or `FAIL CASE: why`; fails if a case does.
// servicebus list: each case and the kinds of what it needs (tests/servicebus/entities.json).
// The environment has connection strings, MENTE_SERVICEBUS and MENTE_SERVICEBUS_ADMIN, and where the certificate of the
// authority of both is, MENTE_SERVICEBUS_CA.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// Of one case; the longest waits of its own are some locks of 5 s.
const patience = 90 * time.Second

// For whatever must happen soon; long, since machines are busy.
const soon = 30 * time.Second

type testCase struct {
	name  string
	kinds []string
	run   func(*bus)
}

var cases []testCase

func define(name string, kinds []string, run func(*bus)) {
	cases = append(cases, testCase{name, kinds, run})
}

func main() {
	if len(os.Args) < 2 {
		panic("list or run?")
	}
	queueCases()
	lockCases()
	messageCases()
	sessionCases()
	refusalCases()
	ruleCases()
	administrationCases()
	transportCases()
	switch os.Args[1] {
	case "list":
		for _, c := range cases {
			fmt.Println(strings.Join(append([]string{c.name}, c.kinds...), " "))
		}
	case "run":
		if !runAll(os.Args[2:]) {
			os.Exit(1)
		}
	default:
		panic("unknown word " + os.Args[1])
	}
}

func runAll(wanted []string) bool {
	good := true
	for _, c := range cases {
		if len(wanted) > 0 && !contains(wanted, c.name) {
			continue
		}
		if why := runOne(c); why != "" {
			good = false
			fmt.Printf("FAIL %s: %s\n", c.name, strings.Join(strings.Fields(why), " "))
		} else {
			fmt.Println("ok", c.name)
		}
	}
	return good
}

// Why it failed, or nothing.
func runOne(c testCase) (why string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// A case is to see what fails, not what a retry makes of it.
	options := &sb.ClientOptions{RetryOptions: sb.RetryOptions{MaxRetries: -1}}
	client, err := sb.NewClientFromConnectionString(os.Getenv("MENTE_SERVICEBUS"), options)
	if err != nil {
		return err.Error()
	}
	defer client.Close(ctx)
	defer func() {
		if failure := recover(); failure != nil {
			why = fmt.Sprint(failure) + where()
		}
	}()
	c.run(&bus{ctx, client, c.name})
	return ""
}

// The innermost line of a case that is about to be given up.
func where() string {
	for depth := 2; ; depth++ {
		_, file, line, ok := runtime.Caller(depth)
		if !ok {
			return ""
		}
		file = file[strings.LastIndex(file, "/")+1:]
		for _, ours := range []string{"queues.go", "locks.go", "messages.go", "sessions.go", "refusals.go", "rules.go",
			"administration.go", "transports.go"} {
			if file == ours {
				return fmt.Sprintf(" (%s:%d)", file, line)
			}
		}
	}
}

// The bus as one case sees it.
type bus struct {
	context.Context
	client *sb.Client
	name   string
}

// What receivers with and without a session have in common.
type receiver interface {
	ReceiveMessages(context.Context, int, *sb.ReceiveMessagesOptions) ([]*sb.ReceivedMessage, error)
	ReceiveDeferredMessages(context.Context, []int64, *sb.ReceiveDeferredMessagesOptions) ([]*sb.ReceivedMessage, error)
	PeekMessages(context.Context, int, *sb.PeekMessagesOptions) ([]*sb.ReceivedMessage, error)
	CompleteMessage(context.Context, *sb.ReceivedMessage, *sb.CompleteMessageOptions) error
	AbandonMessage(context.Context, *sb.ReceivedMessage, *sb.AbandonMessageOptions) error
	DeferMessage(context.Context, *sb.ReceivedMessage, *sb.DeferMessageOptions) error
	DeadLetterMessage(context.Context, *sb.ReceivedMessage, *sb.DeadLetterOptions) error
	Close(context.Context) error
}

func (b *bus) queue(kind string) string {
	return kind + "." + b.name
}

func (b *bus) sender(kind string) *sb.Sender {
	return must(b.client.NewSender(b.queue(kind), nil))
}

func (b *bus) receiver(kind string) *sb.Receiver {
	return must(b.client.NewReceiverForQueue(b.queue(kind), nil))
}

func (b *bus) letters(kind string) *sb.Receiver {
	options := &sb.ReceiverOptions{SubQueue: sb.SubQueueDeadLetter}
	return must(b.client.NewReceiverForQueue(b.queue(kind), options))
}

func (b *bus) session(kind, id string) *sb.SessionReceiver {
	return must(b.client.AcceptSessionForQueue(b, b.queue(kind), id, nil))
}

func (b *bus) send(kind string, messages ...*sb.Message) {
	sender := b.sender(kind)
	for _, message := range messages {
		check(sender.SendMessage(b, message, nil))
	}
	check(sender.Close(b))
}

// Exactly so many messages, in the order in which they came.
func (b *bus) take(from receiver, count int) []*sb.ReceivedMessage {
	ctx, cancel := context.WithTimeout(b, soon)
	defer cancel()
	var taken []*sb.ReceivedMessage
	for len(taken) < count {
		came, err := from.ReceiveMessages(ctx, count-len(taken), nil)
		if err != nil {
			panic(fmt.Sprintf("%d of %d messages came (%v), then %v", len(taken), count, texts(taken), err))
		}
		taken = append(taken, came...)
	}
	same(len(taken), count)
	return taken
}

// One by one: of several that are asked for at once the SDK gives those back that come late, and so another time.
func (b *bus) takeInTurn(from receiver, count int) []*sb.ReceivedMessage {
	var taken []*sb.ReceivedMessage
	for range count {
		taken = append(taken, b.takeOne(from))
	}
	return taken
}

// A few messages, or none within a while.
func (b *bus) takeSome(from receiver) []*sb.ReceivedMessage {
	ctx, cancel := context.WithTimeout(b, 2*time.Second)
	defer cancel()
	came, err := from.ReceiveMessages(ctx, 5, nil)
	check(b.Err())
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		panic(err)
	}
	return came
}

func (b *bus) takeOne(from receiver) *sb.ReceivedMessage {
	return b.take(from, 1)[0]
}

func (b *bus) isEmpty(from receiver) {
	ctx, cancel := context.WithTimeout(b, time.Second)
	defer cancel()
	came, err := from.ReceiveMessages(ctx, 1, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		panic(fmt.Sprintf("%v came, or %v", texts(came), err))
	}
}

func (b *bus) peekAll(from receiver) []*sb.ReceivedMessage {
	return must(from.PeekMessages(b, 100, &sb.PeekMessagesOptions{FromSequenceNumber: to(int64(1))}))
}

func text(body string) *sb.Message {
	return &sb.Message{Body: []byte(body)}
}

func texts(messages []*sb.ReceivedMessage) []string {
	all := []string{}
	for _, message := range messages {
		all = append(all, string(message.Body))
	}
	return all
}

func numbered(prefix string, count int) []string {
	all := []string{}
	for i := range count {
		all = append(all, fmt.Sprintf("%s%d", prefix, i))
	}
	return all
}

func to[T any](value T) *T {
	return &value
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// As they print, types told apart.
func same(is, wanted any) {
	if one, other := fmt.Sprintf("%#v", is), fmt.Sprintf("%#v", wanted); one != other {
		panic(one + " where " + other + " belongs")
	}
}

func holds(is bool, what ...any) {
	if !is {
		panic(fmt.Sprint(what...))
	}
}

// The call must have ended with an error of that code.
func refused(code sb.Code, err error) {
	var known *sb.Error
	if !errors.As(err, &known) || known.Code != code {
		panic(fmt.Sprintf("%v and not refused with %s", err, code))
	}
}

// The call must have ended with an error that says this.
func refusedSaying(word string, err error) {
	if err == nil || !strings.Contains(strings.ToLower(err.Error()), word) {
		panic(fmt.Sprintf("%v and not refused with a word on %s", err, word))
	}
}

// Waits until shortly behind a moment.
func past(moment *time.Time) {
	time.Sleep(time.Until(*moment) + 500*time.Millisecond)
}

func contains(all []string, one string) bool {
	for _, other := range all {
		if one == other {
			return true
		}
	}
	return false
}
