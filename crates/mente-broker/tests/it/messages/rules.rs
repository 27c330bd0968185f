//! Rules of subscriptions.

use mente_broker::rule::{Parameters, Rule, RuleFilter, SqlAction, SqlFilter};

use super::*;

fn rule(name: &str, filter: &str, action: Option<&str>) -> Rule {
    let filter = SqlFilter::new(filter, Parameters::default()).unwrap();
    Rule {
        name: name.to_owned(),
        filter: RuleFilter::Sql(filter),
        action: action.map(|text| SqlAction::new(text, Parameters::default()).unwrap()),
        created_ms: 0,
    }
}

fn coloured(id: usize, color: &str) -> Message {
    let mut message = message(id);
    let color = Attribute::Text(color.to_owned());
    message.event.extensions.push(("color".to_owned(), color));
    message
}

#[test]
fn rules_say_what_a_subscription_gets_and_copies_are_made_for_those_with_actions() {
    let topic = EntityName::new("news").unwrap();
    let view = SubscriptionName {
        topic: topic.clone(),
        name: EntityName::new("mine").unwrap(),
    };
    let all = || Taking::locked(99, Duration::ZERO);
    let mut world = World::new(13);
    call!(world, b => b.create_message_topic(&ME, "news", Default::default())).unwrap();
    let first = rule("blue", "color = 'blue'", None);
    call!(world, b => b.create_message_subscription(&ME, &topic, "mine", Default::default(), first)).unwrap();
    let send = |world: &mut World, id, color: &str| {
        let messages = vec![coloured(id, color)];
        call!(world, b => b.send(&ME, &topic, messages)).unwrap();
    };
    send(&mut world, 0, "red");
    send(&mut world, 1, "blue");
    let also = rule("any", "color LIKE 'b%'", None);
    call!(world, b => b.add_rule(&ME, &view, also)).unwrap();
    for name in ["x", "y"] {
        let copies = rule(name, "color = 'blue' OR color = 'red'", Some("SET n = 1"));
        call!(world, b => b.add_rule(&ME, &view, copies)).unwrap();
    }
    let again = rule("X", "1 = 1", None);
    let again = call!(world, b => b.add_rule(&ME, &view, again));
    assert_eq!(again.unwrap_err().kind, Kind::Exists);
    send(&mut world, 2, "blue");
    send(&mut world, 3, "red");
    call!(world, b => b.remove_rule(&ME, &view, "x")).unwrap();
    let gone = call!(world, b => b.remove_rule(&ME, &view, "x"));
    assert_eq!(gone.unwrap_err().kind, Kind::NotFound);
    send(&mut world, 4, "blue");
    for _ in 0..2 {
        let out = world.take_from(&view, all());
        let mut got: Vec<_> = out
            .iter()
            .map(|held| {
                let rule = held.stored.event.extension("rulename");
                let rule = rule.map_or(String::new(), Attribute::to_text);
                let id: usize = held.stored.event.id.parse().unwrap();
                (id, rule)
            })
            .collect();
        got.sort();
        let expected = [
            (1, ""),
            (2, ""),
            (2, "x"),
            (2, "y"),
            (3, "x"),
            (3, "y"),
            (4, ""),
            (4, "y"),
        ];
        let expected = expected.map(|(id, rule)| (id, rule.to_owned()));
        assert_eq!(got, expected);
        let mut numbers = numbers(&out);
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 8, "each copy has a number of its own");
        world = world.crash();
    }
    let counts = call!(world, b => b.message_counts(&ME, &view)).unwrap();
    assert_eq!(counts.active, 8);
    // Each copy is settled for itself.
    let out = world.take_from(&view, all());
    let tokens = out[..3].iter().map(|h| h.lock.unwrap().token).collect();
    call!(world, b => b.end_locks(&ME, &view, tokens, Ending::Complete)).unwrap();
    let mut world = world.crash();
    assert_eq!(world.take_from(&view, all()).len(), 5);
    let names: Vec<_> = call!(world, b => b.rules(&ME, &view)).unwrap();
    let names: Vec<_> = names.into_iter().map(|rule| rule.name).collect();
    assert_eq!(names, ["blue", "any", "y"]);
}
