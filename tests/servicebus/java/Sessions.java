import com.azure.core.amqp.exception.AmqpErrorCondition;
import com.azure.core.amqp.exception.AmqpException;
import com.azure.messaging.servicebus.ServiceBusFailureReason;
import com.azure.messaging.servicebus.models.DeadLetterOptions;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/** Sessions: exclusive, in order, with a state of their own. */
class Sessions extends Cases {
    static void define() {
        define("session_named", "session", Sessions::named);
        define("session_next", "session", Sessions::next);
        define("session_next_when_there_is_none", "session", Sessions::nextWhenThereIsNone);
        define("sessions_interleaved", "session", Sessions::interleaved);
        define("session_processor", "session", Sessions::processor);
        define("session_is_exclusive", "session", Sessions::exclusive);
        define("session_state", "session", Sessions::state);
        define("session_renewed", "brief-session", Sessions::renewed);
        define("session_lock_lost", "brief-session", Sessions::lockLost);
        define("session_ends_of_messages", "session", Sessions::endsOfMessages);
    }

    static void named(Bus bus) {
        bus.send("session", of("a", "a0"), of("a", "a1"), of("b", "b0"));
        var from = bus.session("session", "a");
        same(from.getSessionId(), "a");
        var came = take(from, 2);
        same(texts(came), List.of("a0", "a1"));
        same(came.get(0).getSessionId(), "a");
        came.forEach(from::complete);
        // Another session's are not its own.
        isEmpty(from);
        same(body(takeOne(bus.session("session", "b"))), "b0");
    }

    static void next(Bus bus) {
        bus.send("session", of("a", "a0"), of("b", "b0"));
        var seen = new TreeMap<String, String>();
        for (int i = 0; i < 2; i++) {
            var from = bus.session("session", null);
            var message = takeOne(from);
            same(message.getSessionId(), from.getSessionId());
            seen.put(from.getSessionId(), body(message));
        }
        same(seen, Map.of("a", "a0", "b", "b0"));
    }

    static void nextWhenThereIsNone(Bus bus) {
        var client = bus.keep(bus.builder(Duration.ofSeconds(3)).sessionReceiver()
            .queueName(bus.queue("session")).buildClient());
        try {
            var from = client.acceptNextSession();
            throw new AssertionError("there is a session " + from.getSessionId());
        } catch (RuntimeException e) {
            check(String.valueOf(e).toLowerCase().contains("timeout"), e.toString());
        }
    }

    static void interleaved(Bus bus) throws Exception {
        var messages = IntStream.range(0, 20).boxed().flatMap(i -> Stream.of(of("a", "a" + i), of("b", "b" + i)));
        bus.sender("session").sendMessages(messages.toList());
        List<CompletableFuture<List<String>>> drained = new ArrayList<>();
        for (String name : List.of("a", "b")) {
            var from = bus.session("session", name);
            drained.add(CompletableFuture.supplyAsync(() -> {
                List<String> seen = new ArrayList<>();
                while (seen.size() < 20) {
                    for (var message : take(from, 2)) {
                        seen.add(body(message));
                        from.complete(message);
                    }
                }
                return seen;
            }));
        }
        same(drained.get(0).get(), numbered("a", 20));
        same(drained.get(1).get(), numbered("b", 20));
    }

    /** As many sessions at a time as asked for, each in order. */
    static void processor(Bus bus) throws InterruptedException {
        var messages = IntStream.range(0, 10).boxed()
            .flatMap(i -> Stream.of("a", "b", "c").map(name -> of(name, name + i)));
        bus.sender("session").sendMessages(messages.toList());
        var seen = new ConcurrentHashMap<String, ConcurrentLinkedQueue<String>>();
        var errors = new ConcurrentLinkedQueue<String>();
        var processor = bus.keep(bus.builder().sessionProcessor().queueName(bus.queue("session"))
            .maxConcurrentSessions(2).sessionIdleTimeout(Duration.ofSeconds(2))
            .processMessage(context -> {
                var message = context.getMessage();
                seen.computeIfAbsent(message.getSessionId(), any -> new ConcurrentLinkedQueue<>()).add(body(message));
            })
            .processError(context -> errors.add(String.valueOf(context.getException())))
            .buildProcessorClient());
        processor.start();
        Queues.eventually(() -> seen.values().stream().mapToInt(queue -> queue.size()).sum() >= 30, seen);
        processor.close();
        for (String name : List.of("a", "b", "c")) {
            same(List.copyOf(seen.get(name)), numbered(name, 10));
        }
    }

    static void exclusive(Bus bus) {
        bus.send("session", of("a", "a0"));
        var from = bus.session("session", "a");
        try {
            bus.session("session", "a");
            throw new AssertionError("two have one session");
        } catch (AmqpException e) {
            same(e.getErrorCondition(), AmqpErrorCondition.SESSION_CANNOT_BE_LOCKED);
        }
        same(body(takeOne(from)), "a0");
        from.close();
        // Free as soon as it is closed, and what was locked under it with it, not counted.
        var message = takeOne(bus.session("session", "a"));
        same(body(message), "a0");
        same(message.getDeliveryCount(), 0L);
    }

    static void state(Bus bus) {
        byte[] state = {0, -1};
        var from = bus.session("session", "a");
        same(from.getSessionState(), null);
        from.setSessionState(state);
        same(from.getSessionState(), state);
        from.close();
        // It outlives lock and messages.
        from = bus.session("session", "a");
        same(from.getSessionState(), state);
        from.setSessionState(null);
        same(from.getSessionState(), null);
    }

    static void renewed(Bus bus) throws InterruptedException {
        bus.send("brief-session", of("a", "a0"));
        var from = bus.session("brief-session", "a");
        var message = takeOne(from);
        Thread.sleep(3000);
        var until = from.renewSessionLock();
        check(until.isAfter(OffsetDateTime.now()), "renewed until " + until);
        // Behind the end of the lock as it was at first.
        past(OffsetDateTime.now().plusSeconds(2));
        from.complete(message);
        same(peekAll(from), List.of());
    }

    static void lockLost(Bus bus) throws InterruptedException {
        bus.send("brief-session", of("a", "a0"));
        var from = bus.session("brief-session", "a");
        var message = takeOne(from);
        past(OffsetDateTime.now().plusSeconds(5));
        refused(ServiceBusFailureReason.SESSION_LOCK_LOST, from::renewSessionLock);
        refusedSaying("lock", () -> from.complete(message));
        same(body(takeOne(bus.session("brief-session", "a"))), "a0");
    }

    static void endsOfMessages(Bus bus) {
        bus.send("session", of("a", "again"), of("a", "late"), of("a", "bad"), of("b", "b0"));
        var from = bus.session("session", "a");
        same(texts(from.peekMessages(9).stream().toList()), List.of("again", "late", "bad"));
        from.abandon(takeOne(from));
        var again = takeOne(from);
        same(again.getDeliveryCount(), 1L);
        from.complete(again);
        var late = takeOne(from);
        from.defer(late);
        from.deadLetter(takeOne(from), new DeadLetterOptions().setDeadLetterReason("Broken"));
        var deferred = from.receiveDeferredMessage(late.getSequenceNumber());
        same(body(deferred), "late");
        from.complete(deferred);
        // The dead letters of sessions are in none.
        var letter = takeOne(bus.letters("session"));
        same(List.of(body(letter), letter.getSessionId(), letter.getDeadLetterReason()), List.of("bad", "a", "Broken"));
    }
}
