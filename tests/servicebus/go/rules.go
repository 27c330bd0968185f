package main

import (
	"slices"

	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
)

// Rules of subscriptions, by the administration client: that of messages knows none.
func ruleCases() {
	define("rules_are_made_changed_and_removed", []string{"topic"}, rulesAreMadeChangedAndRemoved)
	define("each_rule_with_an_action_makes_a_copy", []string{"topic"}, eachRuleWithAnActionMakesACopy)
}

func rulesAreMadeChangedAndRemoved(b *bus) {
	client, topic := administration(), b.queue("topic")
	filter := &admin.SQLFilter{Expression: "a = @a", Parameters: map[string]any{"@a": "x", "@n": 7.0, "@f": true}}
	action := &admin.SQLAction{Expression: "SET b = @n", Parameters: map[string]any{"@n": 1.5}}
	options := &admin.CreateRuleOptions{Name: to("sql"), Filter: filter, Action: action}
	must(client.CreateRule(b, topic, "one", options))
	correlation := &admin.CorrelationFilter{
		Subject: to("l"), ApplicationProperties: map[string]any{"p": "q", "f": true},
	}
	must(client.CreateRule(b, topic, "one", &admin.CreateRuleOptions{Name: to("correlation"), Filter: correlation}))
	found := must(client.GetRule(b, topic, "one", "sql", nil))
	same(found.Filter, admin.RuleFilter(filter))
	same(found.Action, admin.RuleAction(action))
	told := must(client.GetRule(b, topic, "one", "correlation", nil)).Filter.(*admin.CorrelationFilter)
	same(*told.Subject, "l")
	same(told.ApplicationProperties, correlation.ApplicationProperties)
	holds(told.MessageID == nil && told.SessionID == nil, "what was not said is there")
	names := []string{}
	pager := client.NewListRulesPager(topic, "one", nil)
	for pager.More() {
		for _, rule := range must(pager.NextPage(b)).Rules {
			names = append(names, rule.Name)
		}
	}
	slices.Sort(names)
	same(names, []string{"$Default", "correlation", "sql"})
	found.Filter = &admin.FalseFilter{}
	must(client.UpdateRule(b, topic, "one", found.RuleProperties))
	same(must(client.GetRule(b, topic, "one", "sql", nil)).Filter, admin.RuleFilter(&admin.FalseFilter{}))
	_, err := client.CreateRule(b, topic, "one", options)
	refusedWith(409, err)
	must(client.DeleteRule(b, topic, "one", "sql", nil))
	_, err = client.DeleteRule(b, topic, "one", "sql", nil)
	refusedWith(404, err)
	holds(must(client.GetRule(b, topic, "one", "sql", nil)) == nil, "it is there still")
}

func eachRuleWithAnActionMakesACopy(b *bus) {
	client, topic := administration(), b.queue("topic")
	first := &admin.RuleProperties{Name: "plain", Filter: &admin.SQLFilter{Expression: "n > 0"}}
	options := &admin.CreateSubscriptionOptions{Properties: &admin.SubscriptionProperties{DefaultRule: first}}
	must(client.CreateSubscription(b, topic, "mine", options))
	for _, name := range []string{"d", "e"} {
		must(client.CreateRule(b, topic, "mine", &admin.CreateRuleOptions{
			Name: to(name), Filter: &admin.SQLFilter{Expression: "n = 1"},
			Action: &admin.SQLAction{Expression: "SET mark = '" + name + "'"},
		}))
	}
	must(client.CreateRule(b, topic, "mine", &admin.CreateRuleOptions{Name: to("all"), Filter: &admin.TrueFilter{}}))
	b.send("topic", &sb.Message{Body: []byte("m"), ApplicationProperties: map[string]any{"n": 1}})
	from := must(b.client.NewReceiverForSubscription(topic, "mine", nil))
	marks := []string{}
	for _, message := range b.take(from, 3) {
		mark, _ := message.ApplicationProperties["mark"].(string)
		rule, _ := message.ApplicationProperties["RuleName"].(string)
		same(mark, rule)
		marks = append(marks, mark)
		check(from.CompleteMessage(b, message, nil))
	}
	slices.Sort(marks)
	same(marks, []string{"", "d", "e"})
	b.isEmpty(from)
}
