import com.azure.core.amqp.AmqpRetryOptions;
import com.azure.messaging.servicebus.ServiceBusClientBuilder;
import com.azure.messaging.servicebus.ServiceBusException;
import com.azure.messaging.servicebus.ServiceBusFailureReason;
import com.azure.messaging.servicebus.ServiceBusMessage;
import com.azure.messaging.servicebus.ServiceBusReceivedMessage;
import com.azure.messaging.servicebus.ServiceBusReceiverClient;
import com.azure.messaging.servicebus.ServiceBusSenderClient;
import com.azure.messaging.servicebus.models.SubQueue;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;

/**
 * Cases against a Service Bus, with azure-messaging-servicebus as it is published.
 *
 * run [CASE...]: one line a case, "ok CASE" or "FAIL CASE: why"; fails if a case does.
 * list: each case and the kinds of what it needs (tests/servicebus/entities.json).
 * The environment has the connection string, MENTE_SERVICEBUS, and where the certificate of the server's authority is,
 * MENTE_SERVICEBUS_CA. The administration client goes to port 443 whatever it is told, and so has no cases.
 */
class Cases {
    /** Of one case; the longest waits of its own are some locks of 5 s. */
    private static final long PATIENCE_SECONDS = 90;
    /** For whatever must happen soon; long, since machines are busy. */
    static final Duration SOON = Duration.ofSeconds(30);

    interface Body {
        void run(Bus bus) throws Exception;
    }

    record Case(List<String> kinds, Body body) {}

    private static final Map<String, Case> ALL = new LinkedHashMap<>();

    static void define(String name, String kinds, Body body) {
        ALL.put(name, new Case(kinds.isEmpty() ? List.of() : List.of(kinds.split(" ")), body));
    }

    public static void main(String[] args) {
        Queues.define();
        Messages.define();
        Sessions.define();
        Refusals.define();
        Rules.define();
        Transactions.define();
        Transports.define();
        switch (args.length == 0 ? "" : args[0]) {
            case "list" -> ALL.forEach((name, one) ->
                System.out.println((name + " " + String.join(" ", one.kinds)).strip()));
            case "run" -> {
                List<String> wanted = Arrays.asList(args).subList(1, args.length);
                boolean good = true;
                for (String name : wanted.isEmpty() ? List.copyOf(ALL.keySet()) : wanted) {
                    good &= run(name, ALL.get(name));
                }
                // The SDK has threads of its own that outlive its clients.
                System.exit(good ? 0 : 1);
            }
            default -> throw new IllegalArgumentException("list or run?");
        }
    }

    private static boolean run(String name, Case one) {
        Bus bus = new Bus(name);
        var done = CompletableFuture.runAsync(() -> {
            try {
                one.body.run(bus);
            } catch (Exception e) {
                throw new RuntimeException(e);
            }
        });
        Throwable why = null;
        try {
            done.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
        } catch (ExecutionException e) {
            why = e.getCause();
            if (why.getClass() == RuntimeException.class && why.getCause() != null) {
                why = why.getCause();
            }
        } catch (Exception e) {
            why = e;
        }
        bus.close();
        if (why == null) {
            System.out.println("ok " + name);
        } else {
            var said = new StringBuilder(String.valueOf(why));
            for (Throwable cause = why.getCause(); cause != null; cause = cause.getCause()) {
                said.append(", since ").append(cause);
            }
            System.out.println("FAIL " + name + ": " + said.toString().replaceAll("\\s+", " ") + where(why));
        }
        return why == null;
    }

    /** The innermost line of a case that led to it. */
    private static String where(Throwable why) {
        for (StackTraceElement at : why.getStackTrace()) {
            if (List.of("Queues.java", "Messages.java", "Sessions.java", "Refusals.java", "Rules.java",
                "Transactions.java", "Transports.java").contains(at.getFileName())) {
                return " (" + at.getFileName() + ":" + at.getLineNumber() + ")";
            }
        }
        return "";
    }

    /** The bus as one case sees it. */
    static class Bus {
        final String name;
        private final List<AutoCloseable> open = new ArrayList<>();

        Bus(String name) {
            this.name = name;
        }

        String queue(String kind) {
            return kind + "." + name;
        }

        ServiceBusClientBuilder builder() {
            return builder(SOON);
        }

        ServiceBusClientBuilder builder(Duration patience) {
            // A case is to see what fails, not what a retry makes of it.
            var retry = new AmqpRetryOptions().setMaxRetries(0).setTryTimeout(patience);
            return new ServiceBusClientBuilder()
                .connectionString(System.getenv("MENTE_SERVICEBUS"))
                .retryOptions(retry);
        }

        ServiceBusSenderClient sender(String kind) {
            return keep(builder().sender().queueName(queue(kind)).buildClient());
        }

        ServiceBusClientBuilder.ServiceBusReceiverClientBuilder receiving(String kind) {
            // Locks are not renewed behind the case's back.
            return builder().receiver().queueName(queue(kind)).disableAutoComplete()
                .maxAutoLockRenewDuration(Duration.ZERO);
        }

        ServiceBusReceiverClient receiver(String kind) {
            return keep(receiving(kind).buildClient());
        }

        ServiceBusReceiverClient letters(String kind) {
            return keep(receiving(kind).subQueue(SubQueue.DEAD_LETTER_QUEUE).buildClient());
        }

        ServiceBusReceiverClient session(String kind, String id) {
            var client = keep(builder().sessionReceiver().queueName(queue(kind)).disableAutoComplete()
                .maxAutoLockRenewDuration(Duration.ZERO).buildClient());
            return keep(id == null ? client.acceptNextSession() : client.acceptSession(id));
        }

        void send(String kind, ServiceBusMessage... messages) {
            try (var sender = builder().sender().queueName(queue(kind)).buildClient()) {
                for (ServiceBusMessage message : messages) {
                    sender.sendMessage(message);
                }
            }
        }

        /** Closed behind the case, last first. */
        <T extends AutoCloseable> T keep(T client) {
            open.add(0, client);
            return client;
        }

        void close() {
            for (AutoCloseable client : open) {
                try {
                    client.close();
                } catch (Exception e) {
                    // A case that failed may leave one that cannot close.
                }
            }
        }
    }

    /** Exactly so many messages, in the order in which they came. */
    static List<ServiceBusReceivedMessage> take(ServiceBusReceiverClient from, int count) {
        List<ServiceBusReceivedMessage> taken = new ArrayList<>();
        long until = System.nanoTime() + SOON.toNanos();
        while (taken.size() < count) {
            long left = until - System.nanoTime();
            check(left > 0, taken.size() + " of " + count + " messages came: " + texts(taken));
            from.receiveMessages(count - taken.size(), Duration.ofNanos(left)).forEach(taken::add);
        }
        same(taken.size(), count);
        return taken;
    }

    static ServiceBusReceivedMessage takeOne(ServiceBusReceiverClient from) {
        return take(from, 1).get(0);
    }

    static void isEmpty(ServiceBusReceiverClient from) {
        List<ServiceBusReceivedMessage> came = new ArrayList<>();
        from.receiveMessages(1, Duration.ofSeconds(1)).forEach(came::add);
        same(texts(came), List.of());
    }

    static List<ServiceBusReceivedMessage> peekAll(ServiceBusReceiverClient from) {
        return from.peekMessages(100, 1).stream().toList();
    }

    static ServiceBusMessage text(String body) {
        return new ServiceBusMessage(body);
    }

    static ServiceBusMessage of(String session, String body) {
        return text(body).setSessionId(session);
    }

    static List<String> texts(List<ServiceBusReceivedMessage> messages) {
        return messages.stream().map(Cases::body).toList();
    }

    static String body(ServiceBusReceivedMessage message) {
        return message.getBody().toString();
    }

    static List<String> numbered(String prefix, int count) {
        return IntStream.range(0, count).mapToObj(i -> prefix + i).toList();
    }

    static void same(Object is, Object wanted) {
        check(Objects.deepEquals(is, wanted), is + " where " + wanted + " belongs");
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    /** The call must end with an error of that reason. */
    static void refused(ServiceBusFailureReason reason, Runnable call) {
        try {
            call.run();
        } catch (ServiceBusException e) {
            check(e.getReason() == reason, e + " is of " + e.getReason() + " and not of " + reason);
            return;
        }
        throw new AssertionError("it was not refused with " + reason);
    }

    /** The call must end with an error that says this. */
    static void refusedSaying(String word, Runnable call) {
        try {
            call.run();
        } catch (RuntimeException e) {
            for (Throwable why = e; why != null; why = why.getCause()) {
                if (String.valueOf(why).toLowerCase().contains(word)) {
                    return;
                }
            }
            throw new AssertionError(e + " has no word on " + word);
        }
        throw new AssertionError("it was not refused with a word on " + word);
    }

    /** Waits until shortly behind a moment. */
    static void past(OffsetDateTime moment) throws InterruptedException {
        long ms = Duration.between(OffsetDateTime.now(), moment).toMillis();
        Thread.sleep(Math.max(0, ms) + 500);
    }
}
