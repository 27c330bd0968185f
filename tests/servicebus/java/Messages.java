import com.azure.core.amqp.models.AmqpMessageBody;
import com.azure.core.amqp.models.AmqpMessageBodyType;
import com.azure.core.amqp.models.AmqpMessageId;
import com.azure.core.util.BinaryData;
import com.azure.messaging.servicebus.ServiceBusMessage;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;

/** What a message holds comes back as it was sent. */
class Messages extends Cases {
    static void define() {
        define("properties", "plain", Messages::properties);
        define("nothing_but_a_body", "plain", Messages::nothingButABody);
        define("application_properties", "plain", Messages::applicationProperties);
        define("bodies", "plain", Messages::bodies);
        define("annotated", "plain", Messages::annotated);
        define("large", "plain", Messages::large);
        define("larger_than_an_event", "large", Messages::largerThanAnEvent);
    }

    static void properties(Bus bus) {
        byte[] body = {0, -1};
        bus.send("plain", new ServiceBusMessage(body).setMessageId("the id").setCorrelationId("correlated")
            .setSubject("a subject").setContentType("application/x-test; charset=utf-8").setPartitionKey("key")
            .setTo("there").setReplyTo("here").setReplyToSessionId("back").setTimeToLive(Duration.ofMinutes(5)));
        var message = takeOne(bus.receiver("plain"));
        same(message.getBody().toBytes(), body);
        same(message.getMessageId(), "the id");
        same(message.getCorrelationId(), "correlated");
        same(message.getSubject(), "a subject");
        same(message.getContentType(), "application/x-test; charset=utf-8");
        same(message.getPartitionKey(), "key");
        same(message.getTo(), "there");
        same(message.getReplyTo(), "here");
        same(message.getReplyToSessionId(), "back");
        same(message.getTimeToLive(), Duration.ofMinutes(5));
        same(message.getSessionId(), null);
        var off = Duration.between(message.getEnqueuedTime().plusMinutes(5), message.getExpiresAt()).abs();
        check(off.toMillis() < 1000, "it expires at " + message.getExpiresAt());
    }

    static void nothingButABody(Bus bus) {
        bus.send("plain", text("bare"));
        var message = takeOne(bus.receiver("plain"));
        same(Arrays.asList(message.getSubject(), message.getContentType(), message.getTo(), message.getReplyTo(),
            message.getCorrelationId(), message.getSessionId(), message.getPartitionKey()), Arrays.asList(new String[7]));
        same(message.getApplicationProperties(), Map.of());
    }

    /** Each type that the SDK sends. */
    static void applicationProperties(Bus bus) {
        Map<String, Object> sent = new HashMap<>();
        sent.put("text", "t\u00ebxt");
        sent.put("empty", "");
        sent.put("byte", (byte) -8);
        sent.put("short", (short) -16);
        sent.put("int", -32);
        sent.put("long", 1L << 40);
        sent.put("float", 1.25f);
        sent.put("double", 1.1);
        sent.put("boolean", true);
        sent.put("char", 'x');
        sent.put("uuid", UUID.fromString("00112233-4455-6677-8899-aabbccddeeff"));
        sent.put("duration", Duration.ofMillis(90_061_001));
        sent.put("moment", OffsetDateTime.parse("2030-01-02T03:04:05.678Z"));
        sent.put("uri", java.net.URI.create("http://example.com/a"));
        var message = text("m");
        message.getApplicationProperties().putAll(sent);
        bus.send("plain", message);
        var came = takeOne(bus.receiver("plain")).getApplicationProperties();
        same(came.keySet(), sent.keySet());
        sent.forEach((name, value) -> same(came.get(name), value));
    }

    static void bodies(Bus bus) {
        List<AmqpMessageBody> sent = List.of(
            AmqpMessageBody.fromValue("text"), AmqpMessageBody.fromValue(5L), AmqpMessageBody.fromValue(true),
            AmqpMessageBody.fromSequence(List.of(1, "x", true)), AmqpMessageBody.fromData(new byte[] {1, 2}));
        for (AmqpMessageBody body : sent) {
            bus.send("plain", new ServiceBusMessage(body));
        }
        var came = take(bus.receiver("plain"), sent.size());
        for (int i = 0; i < sent.size(); i++) {
            var body = came.get(i).getRawAmqpMessage().getBody();
            same(body.getBodyType(), sent.get(i).getBodyType());
            if (body.getBodyType() == AmqpMessageBodyType.VALUE) {
                same(body.getValue(), sent.get(i).getValue());
            } else if (body.getBodyType() == AmqpMessageBodyType.SEQUENCE) {
                same(body.getSequence(), sent.get(i).getSequence());
            } else {
                same(body.getFirstData(), sent.get(i).getFirstData());
            }
        }
    }

    /** Annotations of others the SDK does not send, and footers it sends in a form that it cannot read. */
    static void annotated(Bus bus) {
        var message = text("m");
        var raw = message.getRawAmqpMessage();
        raw.getHeader().setPriority((short) 7).setDurable(true);
        raw.getProperties().setContentEncoding("identity").setMessageId(new AmqpMessageId("id"));
        raw.getProperties().setUserId("somebody".getBytes());
        bus.send("plain", message);
        var came = takeOne(bus.receiver("plain")).getRawAmqpMessage();
        same(came.getHeader().getPriority(), (short) 7);
        same(came.getHeader().isDurable(), true);
        same(came.getProperties().getContentEncoding(), "identity");
        same(came.getProperties().getMessageId().toString(), "id");
        same(came.getProperties().getUserId(), "somebody".getBytes());
    }

    static void large(Bus bus) {
        byte[] body = "0123456789".repeat(90_000).getBytes();
        bus.send("plain", text("before"), new ServiceBusMessage(BinaryData.fromBytes(body)), text("behind"));
        var from = bus.receiver("plain");
        var came = take(from, 3);
        same(List.of(body(came.get(0)), body(came.get(2))), List.of("before", "behind"));
        check(Arrays.equals(came.get(1).getBody().toBytes(), body), "another body");
        var peeked = from.peekMessage(came.get(1).getSequenceNumber());
        check(Arrays.equals(peeked.getBody().toBytes(), body), "another body when peeked at");
    }

    static void largerThanAnEvent(Bus bus) {
        byte[] body = "0123456789".repeat(500_000).getBytes();
        bus.send("large", text("before"), new ServiceBusMessage(BinaryData.fromBytes(body)), text("behind"));
        var came = take(bus.receiver("large"), 3);
        same(List.of(body(came.get(0)), body(came.get(2))), List.of("before", "behind"));
        check(Arrays.equals(came.get(1).getBody().toBytes(), body), "another body");
    }
}
