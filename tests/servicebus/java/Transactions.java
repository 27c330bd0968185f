import com.azure.messaging.servicebus.ServiceBusClientBuilder;
import com.azure.messaging.servicebus.ServiceBusReceivedMessage;
import com.azure.messaging.servicebus.ServiceBusReceiverClient;
import com.azure.messaging.servicebus.ServiceBusSenderClient;
import com.azure.messaging.servicebus.ServiceBusTransactionContext;
import com.azure.messaging.servicebus.models.AbandonOptions;
import com.azure.messaging.servicebus.models.CompleteOptions;
import com.azure.messaging.servicebus.models.DeadLetterOptions;
import com.azure.messaging.servicebus.models.DeferOptions;
import com.azure.messaging.servicebus.models.SubQueue;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.List;
import java.util.Map;

/** What is done within a transaction is done at its commit, or not at all. The other SDKs here have none. */
class Transactions extends Cases {
    static void define() {
        define("commit_sends", "plain", Transactions::commitSends);
        define("roll_back_sends", "plain", Transactions::rollBackSends);
        define("commit_send_and_complete", "plain", Transactions::commitSendAndComplete);
        define("roll_back_send_and_complete", "short", Transactions::rollBackSendAndComplete);
        define("every_settlement_in_a_transaction", "plain", Transactions::everySettlement);
        define("every_settlement_rolled_back", "short", Transactions::everySettlementRolledBack);
        define("schedule_in_a_transaction", "plain", Transactions::schedule);
        define("settle_by_request_in_a_transaction", "short", Transactions::settleByRequest);
        define("transaction_in_a_session", "session", Transactions::inASession);
        define("transaction_over_a_topic", "topic", Transactions::overATopic);
        define("lock_lost_in_a_transaction", "short", Transactions::lockLost);
        define("messages_alone_to_two_entities", "plain session", Transactions::messagesAlone);
        define("commit_across_entities", "plain short topic", Transactions::acrossEntities);
        define("roll_back_across_entities", "short plain", Transactions::acrossEntitiesRolledBack);
        define("settlement_at_a_second_entity", "plain short", Transactions::secondEntity);
        define("schedule_at_a_second_entity", "plain short", Transactions::scheduleElsewhere);
        define("too_much_in_a_transaction", "plain", Transactions::tooMuch);
        define("transaction_of_nobody", "plain", Transactions::ofNobody);
        define("a_connection_that_ends_rolls_back", "plain", Transactions::connectionThatEnds);
    }

    /** A transaction is of one connection, so all clients of one are made by one builder. */
    record Both(ServiceBusSenderClient sender, ServiceBusReceiverClient receiver) {
        static Both of(Bus bus, String kind) {
            ServiceBusClientBuilder builder = bus.builder();
            var sender = bus.keep(builder.sender().queueName(bus.queue(kind)).buildClient());
            var receiver = bus.keep(builder.receiver().queueName(bus.queue(kind)).disableAutoComplete()
                .maxAutoLockRenewDuration(Duration.ZERO).buildClient());
            return new Both(sender, receiver);
        }
    }

    static void commitSends(Bus bus) {
        var sender = bus.sender("plain");
        var transaction = sender.createTransaction();
        sender.sendMessage(text("a"), transaction);
        sender.sendMessages(List.of(text("b"), text("c")), transaction);
        var from = bus.receiver("plain");
        isEmpty(from);
        same(peekAll(from), List.of());
        sender.commitTransaction(transaction);
        sender.sendMessage(text("behind"));
        same(texts(take(from, 4)), List.of("a", "b", "c", "behind"));
    }

    static void rollBackSends(Bus bus) {
        var sender = bus.sender("plain");
        var transaction = sender.createTransaction();
        sender.sendMessage(text("a"), transaction);
        sender.rollbackTransaction(transaction);
        sender.sendMessage(text("b"));
        var from = bus.receiver("plain");
        same(texts(take(from, 1)), List.of("b"));
        isEmpty(from);
        // It is over, for good.
        refusedSaying("no transaction", () -> sender.commitTransaction(transaction));
    }

    static void commitSendAndComplete(Bus bus) {
        var both = Both.of(bus, "plain");
        bus.send("plain", text("in"));
        var message = takeOne(both.receiver);
        var transaction = both.receiver.createTransaction();
        both.receiver.complete(message, new CompleteOptions().setTransactionContext(transaction));
        both.sender.sendMessage(text("out"), transaction);
        // Still there, and still locked.
        same(texts(peekAll(both.receiver)), List.of("in"));
        isEmpty(bus.receiver("plain"));
        both.sender.commitTransaction(transaction);
        same(texts(peekAll(both.receiver)), List.of("out"));
        same(body(takeOne(both.receiver)), "out");
    }

    /** Its client settles a message once, so that it has to come again. */
    static void rollBackSendAndComplete(Bus bus) throws InterruptedException {
        var both = Both.of(bus, "short");
        bus.send("short", text("in"));
        var message = takeOne(both.receiver);
        var transaction = both.sender.createTransaction();
        both.sender.sendMessage(text("out"), transaction);
        both.receiver.complete(message, new CompleteOptions().setTransactionContext(transaction));
        both.receiver.rollbackTransaction(transaction);
        // Its lock goes on, and is all that keeps it from others.
        isEmpty(bus.receiver("short"));
        var until = both.receiver.renewMessageLock(message);
        check(until.isAfter(message.getLockedUntil()), "it is locked until " + until);
        past(until);
        var again = take(both.receiver, 1);
        same(texts(again), List.of("in"));
        both.receiver.complete(again.get(0));
        same(peekAll(both.receiver), List.of());
    }

    static void everySettlement(Bus bus) {
        var both = Both.of(bus, "plain");
        var transaction = both.receiver.createTransaction();
        var came = settleInEveryWay(bus, "plain", both.receiver, transaction);
        both.receiver.commitTransaction(transaction);
        var letter = takeOne(bus.letters("plain"));
        same(body(letter), "dead");
        same(List.of(letter.getDeadLetterReason(), letter.getDeadLetterErrorDescription()), List.of("r", "d"));
        var again = takeOne(both.receiver);
        same(body(again), "abandoned");
        same(again.getDeliveryCount(), 1L);
        same(again.getApplicationProperties().get("tried"), "once");
        var deferred = both.receiver.receiveDeferredMessage(came.get(1).getSequenceNumber());
        same(body(deferred), "deferred");
        same(peekAll(both.receiver).size(), 2);
    }

    static void everySettlementRolledBack(Bus bus) throws InterruptedException {
        var both = Both.of(bus, "short");
        var transaction = both.receiver.createTransaction();
        var came = settleInEveryWay(bus, "short", both.receiver, transaction);
        both.receiver.rollbackTransaction(transaction);
        past(came.get(3).getLockedUntil());
        var again = take(both.receiver, 4);
        same(texts(again), texts(came));
        for (var message : again) {
            // By the lock that ran out.
            same(message.getDeliveryCount(), 1L);
            check(!message.getApplicationProperties().containsKey("tried"), "nothing is noted");
        }
        isEmpty(bus.letters("short"));
    }

    private static List<ServiceBusReceivedMessage> settleInEveryWay(Bus bus, String kind,
        ServiceBusReceiverClient receiver, ServiceBusTransactionContext transaction) {
        bus.send(kind, text("dead"), text("deferred"), text("abandoned"), text("completed"));
        var came = take(receiver, 4);
        receiver.deadLetter(came.get(0), new DeadLetterOptions().setDeadLetterReason("r")
            .setDeadLetterErrorDescription("d").setTransactionContext(transaction));
        receiver.defer(came.get(1), new DeferOptions().setTransactionContext(transaction));
        receiver.abandon(came.get(2), new AbandonOptions().setTransactionContext(transaction)
            .setPropertiesToModify(Map.of("tried", "once")));
        receiver.complete(came.get(3), new CompleteOptions().setTransactionContext(transaction));
        same(peekAll(receiver).size(), 4);
        isEmpty(bus.letters(kind));
        return came;
    }

    static void schedule(Bus bus) {
        var sender = bus.sender("plain");
        var from = bus.receiver("plain");
        var soon = OffsetDateTime.now().plusSeconds(2);
        var rolledBack = sender.createTransaction();
        sender.scheduleMessage(text("never"), soon, rolledBack);
        sender.rollbackTransaction(rolledBack);
        var transaction = sender.createTransaction();
        long number = sender.scheduleMessage(text("soon"), soon, transaction);
        long cancelled = sender.scheduleMessage(text("cancelled"), OffsetDateTime.now().plusHours(1), transaction);
        same(peekAll(from), List.of());
        sender.commitTransaction(transaction);
        check(number != cancelled, "each has its number");
        sender.cancelScheduledMessage(cancelled);
        same(texts(take(from, 1)), List.of("soon"));
        isEmpty(from);
        same(texts(peekAll(from)), List.of("soon"));
    }

    /** A message that came on no link is settled by a request. */
    static void settleByRequest(Bus bus) throws InterruptedException {
        var both = Both.of(bus, "short");
        bus.send("short", text("a"));
        var first = takeOne(both.receiver);
        both.receiver.defer(first);
        for (boolean commits : new boolean[] {false, true}) {
            var message = both.receiver.receiveDeferredMessage(first.getSequenceNumber());
            var transaction = both.receiver.createTransaction();
            both.receiver.complete(message, new CompleteOptions().setTransactionContext(transaction));
            same(texts(peekAll(both.receiver)), List.of("a"));
            if (commits) {
                both.receiver.commitTransaction(transaction);
                same(peekAll(both.receiver), List.of());
            } else {
                both.receiver.rollbackTransaction(transaction);
                past(message.getLockedUntil());
            }
        }
    }

    static void inASession(Bus bus) {
        var builder = bus.builder();
        bus.send("session", of("s", "in"));
        var sender = bus.keep(builder.sender().queueName(bus.queue("session")).buildClient());
        var sessions = bus.keep(builder.sessionReceiver().queueName(bus.queue("session")).disableAutoComplete()
            .maxAutoLockRenewDuration(Duration.ZERO).buildClient());
        var receiver = bus.keep(sessions.acceptSession("s"));
        var message = takeOne(receiver);
        var transaction = receiver.createTransaction();
        receiver.complete(message, new CompleteOptions().setTransactionContext(transaction));
        sender.sendMessage(of("s", "out"), transaction);
        receiver.commitTransaction(transaction);
        same(texts(take(receiver, 1)), List.of("out"));
    }

    static void overATopic(Bus bus) {
        var builder = bus.builder();
        var topic = bus.queue("topic");
        var sender = bus.keep(builder.sender().topicName(topic).buildClient());
        var one = bus.keep(builder.receiver().topicName(topic).subscriptionName("one").disableAutoComplete()
            .maxAutoLockRenewDuration(Duration.ZERO).buildClient());
        var two = bus.keep(builder.receiver().topicName(topic).subscriptionName("two").disableAutoComplete()
            .maxAutoLockRenewDuration(Duration.ZERO).buildClient());
        sender.sendMessage(text("in"));
        var transaction = sender.createTransaction();
        for (var receiver : List.of(one, two)) {
            receiver.complete(takeOne(receiver), new CompleteOptions().setTransactionContext(transaction));
        }
        sender.sendMessage(text("out"), transaction);
        sender.commitTransaction(transaction);
        for (var receiver : List.of(one, two)) {
            same(texts(take(receiver, 1)), List.of("out"));
            same(texts(peekAll(receiver)), List.of("out"));
        }
    }

    static void lockLost(Bus bus) throws InterruptedException {
        var both = Both.of(bus, "short");
        bus.send("short", text("in"));
        var message = takeOne(both.receiver);
        var transaction = both.receiver.createTransaction();
        both.receiver.complete(message, new CompleteOptions().setTransactionContext(transaction));
        both.sender.sendMessage(text("out"), transaction);
        past(message.getLockedUntil());
        refusedSaying("rolled back", () -> both.receiver.commitTransaction(transaction));
        var again = take(both.receiver, 1);
        same(texts(again), List.of("in"));
        same(again.get(0).getDeliveryCount(), 1L);
        same(texts(peekAll(both.receiver)), List.of("in"));
    }

    static void messagesAlone(Bus bus) {
        var builder = bus.builder();
        var here = bus.keep(builder.sender().queueName(bus.queue("plain")).buildClient());
        var there = bus.keep(builder.sender().queueName(bus.queue("session")).buildClient());
        ServiceBusTransactionContext transaction = here.createTransaction();
        here.sendMessage(text("here"), transaction);
        there.sendMessage(of("s", "there"), transaction);
        isEmpty(bus.receiver("plain"));
        here.commitTransaction(transaction);
        same(texts(take(bus.receiver("plain"), 1)), List.of("here"));
        same(texts(take(bus.session("session", "s"), 1)), List.of("there"));
    }

    /** All links of a client are in one session of AMQP's, that of the coordinator. */
    private static ServiceBusReceiverClient receiver(Bus bus, ServiceBusClientBuilder builder, String kind) {
        return bus.keep(builder.receiver().queueName(bus.queue(kind)).disableAutoComplete()
            .maxAutoLockRenewDuration(Duration.ZERO).buildClient());
    }

    static void acrossEntities(Bus bus) {
        var builder = bus.builder().enableCrossEntityTransactions();
        var from = receiver(bus, builder, "plain");
        var queue = bus.keep(builder.sender().queueName(bus.queue("short")).buildClient());
        var topic = bus.keep(builder.sender().topicName(bus.queue("topic")).buildClient());
        bus.send("plain", text("in"));
        var message = takeOne(from);
        var transaction = from.createTransaction();
        from.complete(message, new CompleteOptions().setTransactionContext(transaction));
        queue.sendMessage(text("first"), transaction);
        topic.sendMessage(text("news"), transaction);
        queue.sendMessages(List.of(text("second"), text("third")), transaction);
        var there = bus.receiver("short");
        isEmpty(there);
        same(texts(peekAll(from)), List.of("in"));
        from.commitTransaction(transaction);
        queue.sendMessage(text("behind"));
        same(peekAll(from), List.of());
        same(texts(take(there, 4)), List.of("first", "second", "third", "behind"));
        isEmpty(there);
        for (var name : List.of("one", "two")) {
            var subscription = bus.keep(bus.builder().receiver().topicName(bus.queue("topic"))
                .subscriptionName(name).disableAutoComplete().buildClient());
            same(texts(take(subscription, 1)), List.of("news"));
            isEmpty(subscription);
        }
        same(peekAll(bus.keep(bus.receiving("plain").subQueue(SubQueue.TRANSFER_DEAD_LETTER_QUEUE).buildClient())),
            List.of());
    }

    static void acrossEntitiesRolledBack(Bus bus) throws InterruptedException {
        var builder = bus.builder().enableCrossEntityTransactions();
        var from = receiver(bus, builder, "short");
        var to = bus.keep(builder.sender().queueName(bus.queue("plain")).buildClient());
        bus.send("short", text("in"));
        var message = takeOne(from);
        var transaction = from.createTransaction();
        from.complete(message, new CompleteOptions().setTransactionContext(transaction));
        to.sendMessage(text("never"), transaction);
        from.rollbackTransaction(transaction);
        past(message.getLockedUntil());
        same(texts(take(from, 1)), List.of("in"));
        to.sendMessage(text("later"));
        same(texts(take(bus.receiver("plain"), 1)), List.of("later"));
        same(texts(peekAll(bus.receiver("plain"))), List.of("later"));
    }

    static void secondEntity(Bus bus) {
        var builder = bus.builder().enableCrossEntityTransactions();
        var home = receiver(bus, builder, "plain");
        var other = receiver(bus, builder, "short");
        var to = bus.keep(builder.sender().queueName(bus.queue("short")).buildClient());
        bus.send("plain", text("home"));
        bus.send("short", text("other"));
        var message = takeOne(home);
        var stranger = takeOne(other);
        var transaction = home.createTransaction();
        home.complete(message, new CompleteOptions().setTransactionContext(transaction));
        to.sendMessage(text("never"), transaction);
        refusedSaying("cannot span multiple top-level entities",
            () -> other.complete(stranger, new CompleteOptions().setTransactionContext(transaction)));
        refusedSaying("cannot span multiple top-level entities", () -> home.commitTransaction(transaction));
        same(texts(peekAll(home)), List.of("home"));
        same(texts(peekAll(other)), List.of("other"));
    }

    static void scheduleElsewhere(Bus bus) {
        var builder = bus.builder().enableCrossEntityTransactions();
        var home = receiver(bus, builder, "plain");
        var to = bus.keep(builder.sender().queueName(bus.queue("short")).buildClient());
        bus.send("plain", text("one"), text("two"));
        var came = take(home, 2);
        var transaction = home.createTransaction();
        home.complete(came.get(0), new CompleteOptions().setTransactionContext(transaction));
        var soon = OffsetDateTime.now().plusSeconds(1);
        refusedSaying("cannot span multiple top-level entities",
            () -> to.scheduleMessage(text("never"), soon, transaction));
        refusedSaying("rolled back", () -> home.commitTransaction(transaction));
        // The same, said by the message: its sender does not look at what became of it, and the commit says it.
        var again = home.createTransaction();
        to.sendMessage(text("never").setScheduledEnqueueTime(OffsetDateTime.now().plusHours(1)), again);
        home.complete(came.get(1), new CompleteOptions().setTransactionContext(again));
        refusedSaying("is scheduled", () -> home.commitTransaction(again));
        same(texts(peekAll(home)), List.of("one", "two"));
        same(peekAll(bus.receiver("short")), List.of());
    }

    static void tooMuch(Bus bus) {
        var sender = bus.sender("plain");
        var most = sender.createTransaction();
        sender.sendMessages(numbered("", 100).stream().map(Cases::text).toList(), most);
        sender.commitTransaction(most);
        var more = sender.createTransaction();
        sender.sendMessages(numbered("", 100).stream().map(Cases::text).toList(), more);
        sender.sendMessage(text("one more"), more);
        refusedSaying("at most 100", () -> sender.commitTransaction(more));
        var from = bus.receiver("plain");
        take(from, 100);
        isEmpty(from);
    }

    /** A transaction of another connection is none. */
    static void ofNobody(Bus bus) {
        var other = bus.sender("plain");
        var transaction = other.createTransaction();
        bus.send("plain", text("m"));
        var from = bus.receiver("plain");
        var message = takeOne(from);
        refusedSaying("no transaction",
            () -> from.complete(message, new CompleteOptions().setTransactionContext(transaction)));
        other.commitTransaction(transaction);
        same(texts(peekAll(from)), List.of("m"));
    }

    static void connectionThatEnds(Bus bus) {
        var builder = bus.builder();
        var queue = bus.queue("plain");
        bus.send("plain", text("in"));
        var sender = builder.sender().queueName(queue).buildClient();
        var receiver = builder.receiver().queueName(queue).disableAutoComplete()
            .maxAutoLockRenewDuration(Duration.ZERO).buildClient();
        var message = takeOne(receiver);
        var transaction = sender.createTransaction();
        sender.sendMessage(text("out"), transaction);
        receiver.complete(message, new CompleteOptions().setTransactionContext(transaction));
        receiver.close();
        sender.close();
        same(texts(peekAll(bus.receiver("plain"))), List.of("in"));
    }
}
