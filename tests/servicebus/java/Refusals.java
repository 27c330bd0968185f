import com.azure.messaging.servicebus.ServiceBusFailureReason;
import com.azure.messaging.servicebus.ServiceBusMessage;

/** What is refused, by which name. */
class Refusals extends Cases {
    static void define() {
        define("unknown_queue", "", Refusals::unknownQueue);
        define("no_session_where_one_is_needed", "session", Refusals::noSessionWhereOneIsNeeded);
        define("session_where_there_are_none", "plain", Refusals::sessionWhereThereAreNone);
        define("too_large", "plain", Refusals::tooLarge);
    }

    static void unknownQueue(Bus bus) {
        var sender = bus.keep(bus.builder().sender().queueName("nothing").buildClient());
        // Where it was to try again, the SDK says but that, and the reason below.
        refusedSaying("could not be found", () -> sender.sendMessage(text("m")));
        var from = bus.keep(bus.builder().receiver().queueName("nothing").buildClient());
        refusedSaying("could not be found", () -> takeOne(from));
    }

    static void noSessionWhereOneIsNeeded(Bus bus) {
        var from = bus.receiver("session");
        refusedSaying("session", () -> takeOne(from));
        refusedSaying("session", () -> bus.send("session", text("of none")));
    }

    static void sessionWhereThereAreNone(Bus bus) {
        refusedSaying("session", () -> bus.session("plain", "a"));
        // A session's name is a property like others there.
        bus.send("plain", of("a", "m"));
        same(takeOne(bus.receiver("plain")).getSessionId(), "a");
    }

    static void tooLarge(Bus bus) {
        var sender = bus.sender("plain");
        refused(ServiceBusFailureReason.MESSAGE_SIZE_EXCEEDED,
            () -> sender.sendMessage(new ServiceBusMessage(new byte[2 << 20])));
        // The sender is of use still.
        sender.sendMessage(text("small"));
        var from = bus.receiver("plain");
        same(body(takeOne(from)), "small");
        isEmpty(from);
    }
}
