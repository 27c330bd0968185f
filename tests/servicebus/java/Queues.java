import com.azure.messaging.servicebus.ServiceBusFailureReason;
import com.azure.messaging.servicebus.ServiceBusMessage;
import com.azure.messaging.servicebus.models.AbandonOptions;
import com.azure.messaging.servicebus.models.CreateMessageBatchOptions;
import com.azure.messaging.servicebus.models.DeadLetterOptions;
import com.azure.messaging.servicebus.models.DeferOptions;
import com.azure.messaging.servicebus.models.ServiceBusMessageState;
import com.azure.messaging.servicebus.models.ServiceBusReceiveMode;
import com.azure.messaging.servicebus.models.SubQueue;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentLinkedQueue;

/** Sending, receiving, locks, and the ends that a message has. */
class Queues extends Cases {
    static void define() {
        define("send_and_complete", "plain", Queues::sendAndComplete);
        define("send_list", "plain", Queues::sendList);
        define("send_batch", "plain", Queues::sendBatch);
        define("abandon", "plain", Queues::abandon);
        define("dead_letter", "plain", Queues::deadLetter);
        define("defer", "plain", Queues::defer);
        define("receive_and_delete", "plain", Queues::receiveAndDelete);
        define("peek", "plain", Queues::peek);
        define("schedule", "plain", Queues::schedule);
        define("schedule_and_cancel", "plain", Queues::scheduleAndCancel);
        define("scheduled_by_its_property", "plain", Queues::scheduledByItsProperty);
        define("processor", "plain", Queues::processor);
        define("prefetch", "plain", Queues::prefetch);
        define("renew_lock", "short", Queues::renewLock);
        define("renewed_by_itself", "short", Queues::renewedByItself);
        define("lock_lost", "short", Queues::lockLost);
        define("too_many_deliveries", "short", Queues::tooManyDeliveries);
        define("expired", "ttl", Queues::expired);
        define("duplicates", "dedup", Queues::duplicates);
        define("topic_to_each_subscription", "topic", Queues::topicToEachSubscription);
    }

    static void sendAndComplete(Bus bus) {
        bus.send("plain", text("one"));
        var from = bus.receiver("plain");
        var message = takeOne(from);
        same(body(message), "one");
        same(message.getDeliveryCount(), 0L);
        check(message.getSequenceNumber() > 0, "its number is " + message.getSequenceNumber());
        check(message.getLockedUntil().isAfter(message.getEnqueuedTime()), "locked until " + message.getLockedUntil());
        var age = Duration.between(message.getEnqueuedTime(), OffsetDateTime.now()).abs();
        check(age.toMinutes() < 1, "enqueued " + message.getEnqueuedTime());
        from.complete(message);
        isEmpty(from);
        same(peekAll(from), List.of());
    }

    static void sendList(Bus bus) {
        bus.sender("plain").sendMessages(numbered("", 10).stream().map(Cases::text).toList());
        var came = take(bus.receiver("plain"), 10);
        same(texts(came), numbered("", 10));
        long first = came.get(0).getSequenceNumber();
        for (int i = 0; i < 10; i++) {
            same(came.get(i).getSequenceNumber(), first + i);
        }
    }

    static void sendBatch(Bus bus) {
        var sender = bus.sender("plain");
        var batch = sender.createMessageBatch(new CreateMessageBatchOptions().setMaximumSizeInBytes(2000));
        int count = 0;
        while (batch.tryAddMessage(text("a".repeat(300)).setMessageId("id-" + count))) {
            count++;
            check(count < 7, "a batch of 2,000 bytes takes " + count + " bodies of 300");
        }
        check(count > 1, "it takes " + count);
        sender.sendMessages(batch);
        var from = bus.receiver("plain");
        var came = take(from, count);
        same(came.stream().map(m -> m.getMessageId()).toList(), numbered("id-", count));
        for (var message : came) {
            from.complete(message);
        }
        same(peekAll(from), List.of());
    }

    static void abandon(Bus bus) {
        var first = text("first");
        first.getApplicationProperties().putAll(Map.of("kept", 1, "changed", "a"));
        bus.send("plain", first, text("second"));
        var from = bus.receiver("plain");
        var message = takeOne(from);
        from.abandon(message, new AbandonOptions().setPropertiesToModify(Map.of("changed", "b", "added", true)));
        // Back in its place, not behind the other one.
        var again = takeOne(from);
        same(body(again), "first");
        same(again.getDeliveryCount(), 1L);
        same(again.getSequenceNumber(), message.getSequenceNumber());
        same(again.getApplicationProperties(), Map.of("kept", 1, "changed", "b", "added", true));
        check(!again.getLockToken().equals(message.getLockToken()), "the same lock");
        from.complete(again);
        same(body(takeOne(from)), "second");
    }

    static void deadLetter(Bus bus) {
        var bad = text("bad").setMessageId("m");
        bad.getApplicationProperties().put("kept", "yes");
        bus.send("plain", bad);
        var from = bus.receiver("plain");
        from.deadLetter(takeOne(from), new DeadLetterOptions()
            .setDeadLetterReason("Broken").setDeadLetterErrorDescription("it does not parse")
            .setPropertiesToModify(Map.of("added", 5)));
        isEmpty(from);
        var letters = bus.letters("plain");
        var letter = takeOne(letters);
        same(List.of(body(letter), letter.getMessageId()), List.of("bad", "m"));
        same(List.of(letter.getDeadLetterReason(), letter.getDeadLetterErrorDescription()),
            List.of("Broken", "it does not parse"));
        same(letter.getApplicationProperties().get("kept"), "yes");
        same(letter.getApplicationProperties().get("added"), 5);
        bus.send("plain", new ServiceBusMessage(letter));
        letters.complete(letter);
        same(peekAll(letters), List.of());
        same(body(takeOne(from)), "bad");
    }

    static void defer(Bus bus) {
        bus.send("plain", text("late"), text("now"));
        var from = bus.receiver("plain");
        var message = takeOne(from);
        from.defer(message, new DeferOptions().setPropertiesToModify(Map.of("why", "not yet")));
        var now = takeOne(from);
        same(body(now), "now");
        from.complete(now);
        isEmpty(from);
        var peeked = peekAll(from);
        same(texts(peeked), List.of("late"));
        same(peeked.get(0).getState(), ServiceBusMessageState.DEFERRED);
        var deferred = from.receiveDeferredMessage(message.getSequenceNumber());
        same(body(deferred), "late");
        same(deferred.getApplicationProperties().get("why"), "not yet");
        from.complete(deferred);
        // The SDK has one name for what it does not get.
        refused(ServiceBusFailureReason.GENERAL_ERROR, () -> from.receiveDeferredMessage(message.getSequenceNumber()));
        same(peekAll(from), List.of());
    }

    static void receiveAndDelete(Bus bus) {
        bus.send("plain", text("one"), text("two"));
        var builder = bus.builder().receiver().queueName(bus.queue("plain"));
        var from = bus.keep(builder.receiveMode(ServiceBusReceiveMode.RECEIVE_AND_DELETE).buildClient());
        same(texts(take(from, 2)), List.of("one", "two"));
        same(peekAll(from), List.of());
    }

    static void peek(Bus bus) {
        bus.sender("plain").sendMessages(numbered("", 5).stream().map(Cases::text).toList());
        var from = bus.receiver("plain");
        var peeked = from.peekMessages(3).stream().toList();
        same(texts(peeked), numbered("", 3));
        same(peeked.get(0).getState(), ServiceBusMessageState.ACTIVE);
        // It goes on behind.
        same(texts(from.peekMessages(9).stream().toList()), List.of("3", "4"));
        same(texts(from.peekMessages(9, peeked.get(1).getSequenceNumber()).stream().toList()),
            List.of("1", "2", "3", "4"));
        // Nothing was locked, and what is locked is shown.
        var message = takeOne(from);
        same(body(message), "0");
        same(message.getDeliveryCount(), 0L);
        same(texts(peekAll(from)), numbered("", 5));
    }

    static void schedule(Bus bus) {
        var due = OffsetDateTime.now().plusSeconds(3);
        List<Long> numbers = new ArrayList<>();
        bus.sender("plain").scheduleMessages(List.of(text("a"), text("b")), due).forEach(numbers::add);
        var from = bus.receiver("plain");
        var peeked = peekAll(from);
        same(peeked.stream().map(m -> m.getSequenceNumber()).toList(), numbers);
        same(peeked.stream().map(m -> m.getState()).distinct().toList(), List.of(ServiceBusMessageState.SCHEDULED));
        var bodies = new ArrayList<>(texts(take(from, 2)));
        Collections.sort(bodies);
        same(bodies, List.of("a", "b"));
        check(!OffsetDateTime.now().isBefore(due), "too early");
    }

    static void scheduleAndCancel(Bus bus) {
        var due = OffsetDateTime.now().plusHours(1);
        var sender = bus.sender("plain");
        long kept = sender.scheduleMessage(text("kept"), due);
        long gone = sender.scheduleMessage(text("gone"), due);
        sender.cancelScheduledMessage(gone);
        // That there is none to cancel the SDK keeps to itself.
        sender.cancelScheduledMessage(gone);
        var peeked = peekAll(bus.receiver("plain"));
        same(texts(peeked), List.of("kept"));
        same(peeked.get(0).getSequenceNumber(), kept);
        same(peeked.get(0).getScheduledEnqueueTime().toInstant().toEpochMilli(), due.toInstant().toEpochMilli());
    }

    static void scheduledByItsProperty(Bus bus) {
        var due = OffsetDateTime.now().plusSeconds(3);
        bus.send("plain", text("later").setScheduledEnqueueTime(due), text("now"));
        same(texts(take(bus.receiver("plain"), 2)), List.of("now", "later"));
        check(!OffsetDateTime.now().isBefore(due), "too early");
    }

    /** A handler that fails abandons, one that does not completes. */
    static void processor(Bus bus) throws InterruptedException {
        bus.sender("plain").sendMessages(numbered("", 30).stream().map(Cases::text).toList());
        var seen = new ConcurrentLinkedQueue<String>();
        var errors = new ConcurrentLinkedQueue<String>();
        var processor = bus.keep(bus.builder().processor().queueName(bus.queue("plain")).maxConcurrentCalls(3)
            .processMessage(context -> {
                var message = context.getMessage();
                if (body(message).equals("7") && message.getDeliveryCount() == 0) {
                    throw new IllegalStateException("once");
                }
                seen.add(body(message));
            })
            .processError(context -> errors.add(String.valueOf(context.getException().getMessage())))
            .buildProcessorClient());
        processor.start();
        eventually(() -> seen.size() >= 30, seen);
        // What was seen is completed behind its handler: one that is closed before that leaves it to others.
        var rest = bus.receiver("plain");
        eventually(() -> peekAll(rest).isEmpty(), "all completed");
        processor.close();
        var bodies = new ArrayList<>(seen);
        Collections.sort(bodies);
        var wanted = new ArrayList<>(numbered("", 30));
        Collections.sort(wanted);
        same(bodies, wanted);
        check(errors.size() == 1 && errors.peek().contains("once"), errors.toString());
        same(peekAll(rest), List.of());
    }

    static void eventually(java.util.function.BooleanSupplier isSo, Object what) throws InterruptedException {
        long until = System.nanoTime() + SOON.toNanos();
        while (!isSo.getAsBoolean()) {
            check(System.nanoTime() < until, what + ": what was to come did not");
            Thread.sleep(50);
        }
    }

    static void prefetch(Bus bus) {
        bus.sender("plain").sendMessages(numbered("", 50).stream().map(Cases::text).toList());
        var from = bus.keep(bus.receiving("plain").prefetchCount(20).buildClient());
        List<String> seen = new ArrayList<>();
        while (seen.size() < 50) {
            for (var message : take(from, 5)) {
                seen.add(body(message));
                from.complete(message);
            }
        }
        same(seen, numbered("", 50));
    }

    static void renewLock(Bus bus) throws InterruptedException {
        bus.send("short", text("held"));
        var from = bus.receiver("short");
        var message = takeOne(from);
        var first = message.getLockedUntil();
        Thread.sleep(3000);
        var renewed = from.renewMessageLock(message);
        check(renewed.isAfter(first), renewed + " is not behind " + first);
        past(first);
        isEmpty(from);
        from.complete(message);
        same(peekAll(from), List.of());
    }

    static void renewedByItself(Bus bus) throws InterruptedException {
        bus.send("short", text("held"));
        var from = bus.keep(bus.receiving("short").maxAutoLockRenewDuration(Duration.ofMinutes(1)).buildClient());
        var message = takeOne(from);
        past(message.getLockedUntil().plusSeconds(4));
        from.complete(message);
        same(peekAll(from), List.of());
    }

    static void lockLost(Bus bus) throws InterruptedException {
        bus.send("short", text("held"));
        var from = bus.receiver("short");
        var message = takeOne(from);
        past(message.getLockedUntil());
        refused(ServiceBusFailureReason.MESSAGE_LOCK_LOST, () -> from.renewMessageLock(message));
        refused(ServiceBusFailureReason.MESSAGE_LOCK_LOST, () -> from.complete(message));
        var again = takeOne(from);
        same(again.getDeliveryCount(), 1L);
        from.complete(again);
    }

    static void tooManyDeliveries(Bus bus) {
        bus.send("short", text("bad"));
        var from = bus.receiver("short");
        for (long i = 0; i < 3; i++) {
            var message = takeOne(from);
            same(message.getDeliveryCount(), i);
            from.abandon(message);
        }
        isEmpty(from);
        var letter = takeOne(bus.letters("short"));
        same(List.of(body(letter), letter.getDeadLetterReason()), List.of("bad", "MaxDeliveryCountExceeded"));
    }

    static void expired(Bus bus) {
        bus.send("ttl", text("stale"), text("too").setTimeToLive(Duration.ofHours(1)));
        var came = take(bus.letters("ttl"), 2);
        same(texts(came), List.of("stale", "too"));
        same(came.stream().map(m -> m.getDeadLetterReason()).distinct().toList(), List.of("TTLExpiredException"));
        isEmpty(bus.receiver("ttl"));
    }

    static void duplicates(Bus bus) {
        bus.send("dedup", text("first").setMessageId("a"), text("again").setMessageId("a"), text("b").setMessageId("b"));
        var from = bus.receiver("dedup");
        var came = take(from, 2);
        same(texts(came), List.of("first", "b"));
        came.forEach(from::complete);
        // Done with, and known still.
        bus.send("dedup", text("too late").setMessageId("a"), text("c").setMessageId("c"));
        same(body(takeOne(from)), "c");
        isEmpty(from);
    }

    static void topicToEachSubscription(Bus bus) {
        var topic = bus.queue("topic");
        var sender = bus.keep(bus.builder().sender().topicName(topic).buildClient());
        sender.sendMessages(List.of(text("a").setSubject("s"), text("b")));
        for (String name : List.of("one", "two")) {
            var from = bus.keep(bus.builder().receiver().topicName(topic).subscriptionName(name)
                .disableAutoComplete().buildClient());
            var came = take(from, 2);
            same(texts(came), List.of("a", "b"));
            same(came.get(0).getSubject(), "s");
            from.complete(came.get(1));
            if (name.equals("one")) {
                from.deadLetter(came.get(0), new DeadLetterOptions().setDeadLetterReason("Broken"));
            }
        }
        var letters = bus.keep(bus.builder().receiver().topicName(topic).subscriptionName("one")
            .subQueue(SubQueue.DEAD_LETTER_QUEUE).disableAutoComplete().buildClient());
        same(takeOne(letters).getDeadLetterReason(), "Broken");
    }
}
