import com.azure.messaging.servicebus.ServiceBusMessage;
import com.azure.messaging.servicebus.ServiceBusReceivedMessage;
import com.azure.messaging.servicebus.ServiceBusReceiverClient;
import com.azure.messaging.servicebus.administration.models.CorrelationRuleFilter;
import com.azure.messaging.servicebus.administration.models.CreateRuleOptions;
import com.azure.messaging.servicebus.administration.models.SqlRuleAction;
import com.azure.messaging.servicebus.administration.models.SqlRuleFilter;
import com.azure.messaging.servicebus.administration.models.TrueRuleFilter;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;

/** Rules of subscriptions, over AMQP. */
class Rules extends Cases {
    static void define() {
        define("rules_are_managed_over_amqp", "topic", Rules::managed);
        define("each_rule_with_an_action_makes_a_copy", "topic", Rules::copies);
    }

    static void managed(Bus bus) {
        var rules = bus.keep(bus.builder().ruleManager().topicName(bus.queue("topic")).subscriptionName("one").buildClient());
        var first = rules.listRules().iterator().next();
        same(first.getName(), "$Default");
        check(first.getFilter() instanceof TrueRuleFilter, String.valueOf(first.getFilter()));
        var sql = new CreateRuleOptions(new SqlRuleFilter("a = 1")).setAction(new SqlRuleAction("SET b = 'c'"));
        rules.createRule("sql", sql);
        var correlation = new CorrelationRuleFilter().setLabel("l");
        correlation.getProperties().put("p", "q");
        rules.createRule("correlation", new CreateRuleOptions(correlation));
        refusedSaying("exists", () -> rules.createRule("sql", sql));
        rules.deleteRule("$Default");
        refusedSaying("rule", () -> rules.deleteRule("$Default"));
        var found = rules.listRules().stream().collect(Collectors.toMap(rule -> rule.getName(), rule -> rule));
        same(new TreeMap<>(found).keySet().stream().toList(), List.of("correlation", "sql"));
        same(((SqlRuleFilter) found.get("sql").getFilter()).getSqlExpression(), "a = 1");
        same(((SqlRuleAction) found.get("sql").getAction()).getSqlExpression(), "SET b = 'c'");
        var told = (CorrelationRuleFilter) found.get("correlation").getFilter();
        same(told.getLabel(), "l");
        same(told.getProperties(), Map.of("p", "q"));
        bus.send("topic", with("x", "a", 1), with("y", "a", 2), with("z", "p", "q").setSubject("l"));
        var from = subscription(bus, "one");
        var came = take(from, 2);
        same(texts(came).stream().sorted().toList(), List.of("x", "z"));
        var changed = came.stream().filter(message -> body(message).equals("x")).findFirst().orElseThrow();
        same(changed.getApplicationProperties().get("b"), "c");
    }

    static void copies(Bus bus) {
        var rules = bus.keep(bus.builder().ruleManager().topicName(bus.queue("topic")).subscriptionName("one").buildClient());
        for (String name : List.of("a", "b")) {
            rules.createRule(name, new CreateRuleOptions(new SqlRuleFilter("n > 0")));
        }
        for (String name : List.of("d", "e")) {
            var action = new SqlRuleAction("SET mark = '" + name + "'");
            rules.createRule(name, new CreateRuleOptions(new SqlRuleFilter("n = 1")).setAction(action));
        }
        bus.send("topic", with("m", "n", 1));
        var from = subscription(bus, "one");
        var came = take(from, 3);
        var marks = came.stream().map(message -> {
            same(message.getApplicationProperties().get("mark"), message.getApplicationProperties().get("RuleName"));
            return String.valueOf(message.getApplicationProperties().get("mark"));
        });
        same(marks.sorted().toList(), List.of("d", "e", "null"));
        came.forEach(from::complete);
        isEmpty(from);
    }

    private static ServiceBusMessage with(String body, String name, Object value) {
        var message = text(body);
        message.getApplicationProperties().put(name, value);
        return message;
    }

    private static ServiceBusReceiverClient subscription(Bus bus, String name) {
        return bus.keep(bus.builder().receiver().disableAutoComplete().maxAutoLockRenewDuration(java.time.Duration.ZERO)
            .topicName(bus.queue("topic")).subscriptionName(name).buildClient());
    }
}
