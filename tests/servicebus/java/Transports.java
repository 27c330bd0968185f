import com.azure.core.amqp.AmqpRetryOptions;
import com.azure.core.amqp.AmqpTransportType;
import com.azure.messaging.servicebus.ServiceBusClientBuilder;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.List;
import java.util.regex.Pattern;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** The same port under TLS and as a WebSocket: as on Azure, but for where it is. */
class Transports extends Cases {
    static void define() {
        define("over_tls", "plain", bus -> thereAndBack(bus, AmqpTransportType.AMQP));
        define("over_a_websocket", "plain", bus -> thereAndBack(bus, AmqpTransportType.AMQP_WEB_SOCKETS));
    }

    /** A client that is not told of an emulator: it goes over TLS. */
    static void thereAndBack(Bus bus, AmqpTransportType transport) throws Exception {
        trust(Path.of(System.getenv("MENTE_SERVICEBUS_CA")));
        var connection = System.getenv("MENTE_SERVICEBUS").replace("UseDevelopmentEmulator=true;", "");
        var place = Pattern.compile("sb://([^:;]+):(\\d+)").matcher(connection);
        check(place.find(), connection);
        var builder = new ServiceBusClientBuilder()
            .connectionString(place.replaceFirst("sb://$1"))
            .customEndpointAddress("https://" + place.group(1) + ":" + place.group(2))
            .transportType(transport)
            .retryOptions(new AmqpRetryOptions().setMaxRetries(0).setTryTimeout(SOON));
        var body = "x".repeat(100_000);
        var sender = bus.keep(builder.sender().queueName(bus.queue("plain")).buildClient());
        sender.sendMessages(List.of(text("m"), text(body)));
        var from = bus.keep(builder.receiver().queueName(bus.queue("plain")).disableAutoComplete().buildClient());
        for (var message : take(from, 2)) {
            check(body(message).equals("m") || body(message).equals(body), "another body");
            from.complete(message);
        }
        same(peekAll(from), List.of());
    }

    /** Makes the SDK, which takes the machine's default, believe the authority. */
    private static void trust(Path certificate) throws GeneralSecurityException, IOException {
        var store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (var in = Files.newInputStream(certificate)) {
            store.setCertificateEntry("authority", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        var trusted = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trusted.init(store);
        var context = SSLContext.getInstance("TLS");
        context.init(null, trusted.getTrustManagers(), null);
        SSLContext.setDefault(context);
    }
}
