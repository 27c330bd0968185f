//! Rules of subscriptions: what clients write, and what of it a journal holds.

use mente_broker::rule::{
    ChangedMessage, EXPRESSION_CHARS, EvaluationError, Message, Parameters, Rule, RuleFilter,
    SqlAction, SqlFilter, Value, same_name, select,
};
use uuid::Uuid;

pub(super) const WORDS: &[&str] = &[
    " AND ",
    " OR ",
    "NOT ",
    " IS NOT NULL",
    " IN (1,",
    " LIKE '%_",
    "ESCAPE '!'",
    "EXISTS(",
    "TRUE",
    "NULL",
    "1=1",
    "(",
    ")",
    "'",
    "''",
    "[",
    "]]",
    "\"",
    "@given",
    "sys.Label",
    "sys.",
    "user.",
    "p(",
    "newid()",
    "-",
    "+",
    "9223372036854775808",
    "1e308",
    "text",
    "whole",
    "SET text = text + text",
    "REMOVE ",
    ";",
    "\n",
];

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "sys.Label LIKE '%bus%' OR user.tag IN ('queue', 'topic')\nomnibus",
        "whole / 3 % 2 = 1 AND NOT (real > 1.5E-2 OR EXISTS([a b])) AND text LIKE 'a!%' ESCAPE '!'\na%",
        "p('sys.' + text) IS NOT NULL AND newid() <> @given AND -whole < +5\nLabel",
        "SET text = text + text; SET sys.Label = text REMOVE whole; SET sys.TimeToLive = @given\nx",
        r#"{"name":"r","filter":{"sql":{"expression":"a=@x","parameters":{"@x":{"double":0.1}}}},"action":{"expression":"REMOVE a"},"created_ms":7}"#,
        r#"{"name":"r","filter":{"correlation":{"label":"l","properties":{"a":{"binary":"AQI="},"d":{"guid":"00000000-0000-0000-0000-000000000007"}}}},"created_ms":7}"#,
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

struct Letter {
    label: Option<Value<'static>>,
    user: Vec<(String, Value<'static>)>,
}

impl Letter {
    fn new(text: &str) -> Self {
        let user = [
            ("text", Value::from(text.to_owned())),
            ("whole", Value::Long(i64::MIN)),
            ("real", Value::Double(f64::NAN)),
            ("a", Value::Null),
        ];
        Self {
            label: Some(Value::from("omnibus")),
            user: user.map(|(name, value)| (name.to_owned(), value)).into(),
        }
    }
}

impl Message for Letter {
    fn system(&self, name: &str) -> Option<Option<Value<'_>>> {
        match name {
            "Label" => Some(self.label.as_ref().map(Value::borrowed)),
            "TimeToLive" => Some(Some(Value::Duration(i64::MAX))),
            "To" | "MessageId" => Some(None),
            _ => None,
        }
    }

    fn user(&self, name: &str) -> Option<Value<'_>> {
        let found = self.user.iter().find(|(own, _)| same_name(own, name));
        found.map(|(_, value)| value.borrowed())
    }

    fn new_id(&self) -> Uuid {
        Uuid::nil()
    }
}

impl ChangedMessage for Letter {
    fn set_system(&mut self, name: &str, value: Option<Value<'static>>) {
        if name == "Label" {
            self.label = value;
        }
    }

    fn set_user(&mut self, name: &str, value: Option<Value<'static>>) {
        self.user.retain(|(own, _)| !same_name(own, name));
        self.user
            .extend(value.map(|value| (name.to_owned(), value)));
    }
}

/// A rule as journaled; else a text, and behind its end of line what a message says.
pub(super) fn rule(input: &[u8]) {
    if let Ok(rule) = serde_json::from_slice::<Rule>(input) {
        let told = serde_json::to_vec(&rule).expect("a rule is told");
        let again = serde_json::from_slice::<Rule>(&told);
        // A number that is none has no form in a journal; nothing that was checked has one.
        if rule.validate().is_ok() {
            assert_eq!(again.ok().as_ref(), Some(&rule), "a rule changes");
        }
        let _ = select(std::slice::from_ref(&rule), &Letter::new("x"));
        let _ = rule.change(&mut Letter::new("x"));
    }
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (text, said) = text.split_once('\n').unwrap_or((text, ""));
    let parameters: Parameters = [("@given".to_owned(), Value::Duration(-1))].into();
    if let Ok(filter) = SqlFilter::new(text, parameters.clone()) {
        let found = filter.matches(&Letter::new(said));
        read_again(&filter, &parameters, said, &found);
        let _ = RuleFilter::Sql(filter).validate();
    }
    if let Ok(action) = SqlAction::new(text, parameters) {
        let _ = action.apply(&mut Letter::new(said));
    }
}

/// As it was understood it says the same, where brackets have not made it too long or too deep.
fn read_again(
    filter: &SqlFilter,
    parameters: &Parameters,
    said: &str,
    found: &Result<bool, EvaluationError>,
) {
    let printed = filter.to_string();
    if printed.chars().count() > EXPRESSION_CHARS {
        return;
    }
    match SqlFilter::new(printed.as_str(), parameters.clone()) {
        Ok(again) => {
            assert_eq!(again.to_string(), printed, "a filter changes");
            assert_eq!(
                again.matches(&Letter::new(said)),
                *found,
                "a filter finds otherwise"
            );
        }
        Err(error) => assert!(
            error.message.contains("nests deeper"),
            "{printed} is not read: {error}"
        ),
    }
}
