import io.cloudevents.CloudEvent;
import io.cloudevents.core.builder.CloudEventBuilder;
import io.cloudevents.core.message.Encoding;
import io.cloudevents.jackson.JsonFormat;
import io.cloudevents.kafka.CloudEventDeserializer;
import io.cloudevents.kafka.CloudEventSerializer;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A program of somebody else on the cluster: Kafka's own client and the CloudEvents SDK, as they come.
 *
 * <pre>
 * KafkaEvents read  BOOTSTRAP TOPIC    prints PARTITION OFFSET KEY EVENT of all committed records
 * KafkaEvents write BOOTSTRAP TOPIC N  writes N events in every mode and codec; prints the ids that count
 * </pre>
 */
public final class KafkaEvents {
    private static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    private static final List<String> MODES =
            List.of("binary", "structured", "plain", "committed", "aborted");

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "read" -> read(args[1], args[2]);
            case "write" -> {
                for (String codec : CODECS) {
                    for (String mode : MODES) {
                        write(args[1], args[2], Integer.parseInt(args[3]), codec, mode);
                    }
                }
            }
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    private static void read(String bootstrap, String topic) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("isolation.level", "read_committed");
        try (var consumer = new KafkaConsumer<>(
                config, new StringDeserializer(), new CloudEventDeserializer())) {
            var partitions = consumer.partitionsFor(topic).stream()
                    .map(found -> new TopicPartition(topic, found.partition()))
                    .toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            var ends = consumer.endOffsets(partitions);
            while (!partitions.stream().allMatch(p -> consumer.position(p) >= ends.get(p))) {
                for (ConsumerRecord<String, CloudEvent> record : consumer.poll(Duration.ofSeconds(1))) {
                    var json = new JsonFormat().serialize(record.value());
                    System.out.printf("%d %d %s %s%n", record.partition(), record.offset(), record.key(),
                            new String(json, StandardCharsets.UTF_8));
                }
            }
        }
    }

    private static void write(String bootstrap, String topic, int count, String codec, String mode)
            throws Exception {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("compression.type", codec);
        config.put("linger.ms", 20);
        boolean transactional = mode.equals("committed") || mode.equals("aborted");
        if (transactional) {
            config.put("transactional.id", topic + codec + mode);
        }
        var events = new CloudEventSerializer();
        events.configure(mode.equals("structured")
                ? Map.of(CloudEventSerializer.ENCODING_CONFIG, Encoding.STRUCTURED,
                        CloudEventSerializer.EVENT_FORMAT_CONFIG, JsonFormat.CONTENT_TYPE)
                : Map.of(CloudEventSerializer.ENCODING_CONFIG, Encoding.BINARY), false);
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new ByteArraySerializer())) {
            if (transactional) {
                producer.initTransactions();
                producer.beginTransaction();
            }
            for (int i = 0; i < count; i++) {
                String id = mode + "-" + codec + "-" + i;
                byte[] data = ("{\"id\":\"" + id + "\",\"mode\":\"" + mode + "\"}").getBytes(StandardCharsets.UTF_8);
                var record = new ProducerRecord<String, byte[]>(topic, "order-" + i % 3, data);
                if (!mode.equals("plain")) {
                    CloudEvent event = CloudEventBuilder.v1().withId(id).withSource(URI.create("/java"))
                            .withType("shop.OrderPlaced").withSubject("order-" + i % 3)
                            .withData("application/json", data).build();
                    byte[] value = events.serialize(topic, record.headers(), event);
                    record = new ProducerRecord<>(topic, null, record.key(), value, record.headers());
                }
                producer.send(record);
                if (!mode.equals("aborted")) {
                    System.out.println(id);
                }
            }
            producer.flush();
            if (mode.equals("committed")) {
                producer.commitTransaction();
            } else if (mode.equals("aborted")) {
                producer.abortTransaction();
            }
        }
    }
}
