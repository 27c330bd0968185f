use super::value::Truth::{self, False, True, Unknown};
use super::*;

/// A message for rules, with what a test says of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Letter {
    pub(super) label: Option<Value<'static>>,
    pub(super) to: Option<Value<'static>>,
    pub(super) time_to_live: Option<Value<'static>>,
    pub(super) user: Vec<(String, Value<'static>)>,
}

const NEW_ID: Uuid = Uuid::from_u128(7);
const NOON: i64 = 1_764_504_000_000;

impl Message for Letter {
    fn system(&self, name: &str) -> Option<Option<Value<'_>>> {
        Some(match name {
            "Label" => self.label.as_ref().map(Value::borrowed),
            "To" => self.to.as_ref().map(Value::borrowed),
            "TimeToLive" => self.time_to_live.as_ref().map(Value::borrowed),
            "EnqueuedTimeUtc" => Some(Value::Moment(NOON)),
            "SequenceNumber" => Some(Value::Long(5)),
            "MessageId" => Some(Value::from("m-1")),
            "ContentType" | "CorrelationId" | "SessionId" | "ReplyTo" | "ReplyToSessionId" => None,
            _ => return None,
        })
    }

    fn user(&self, name: &str) -> Option<Value<'_>> {
        let found = self.user.iter().find(|(own, _)| same_name(own, name));
        found.map(|(_, value)| value.borrowed())
    }

    fn new_id(&self) -> Uuid {
        NEW_ID
    }
}

impl ChangedMessage for Letter {
    fn set_system(&mut self, name: &str, value: Option<Value<'static>>) {
        match name {
            "Label" => self.label = value,
            "To" => self.to = value,
            "TimeToLive" => self.time_to_live = value,
            other => panic!("{other} is not set here"),
        }
    }

    fn set_user(&mut self, name: &str, value: Option<Value<'static>>) {
        let at = self.user.iter().position(|(own, _)| same_name(own, name));
        match (at, value) {
            (Some(at), Some(value)) => self.user[at].1 = value,
            (Some(at), None) => {
                self.user.remove(at);
            }
            (None, Some(value)) => self.user.push((name.to_owned(), value)),
            (None, None) => {}
        }
    }
}

fn letter() -> Letter {
    let user = [
        ("color", Value::from("blue")),
        ("quantity", Value::Long(10)),
        ("price", Value::Double(2.5)),
        ("small", Value::Int(3)),
        ("urgent", Value::Boolean(true)),
        ("nothing", Value::Null),
        ("pattern", Value::from("b%")),
        ("HR-EmployeeID", Value::Long(7)),
        ("Contoso & Northwind", Value::from("c")),
        ("a]b", Value::Long(1)),
        ("largest", Value::Long(i64::MAX)),
        ("never", Value::Double(f64::NAN)),
        ("bytes", Value::Binary(vec![1, 2].into())),
        ("guid", Value::Guid(NEW_ID)),
    ];
    Letter {
        label: Some(Value::from("omnibus")),
        time_to_live: Some(Value::Duration(60_000)),
        user: user
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect(),
        ..Letter::default()
    }
}

fn parameters() -> Parameters {
    let given = [
        ("@text", Value::from("blue")),
        ("ten", Value::Long(10)),
        ("@none", Value::Null),
        ("@noon", Value::Moment(NOON)),
        ("@hour", Value::Duration(3_600_000)),
        ("@guid", Value::Guid(NEW_ID)),
        ("@bytes", Value::Binary(vec![1, 2].into())),
        ("@one", Value::from("!")),
    ];
    given
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

fn truth(filter: &str) -> Result<Truth, EvaluationError> {
    let condition = parser::condition(filter, &parameters())
        .unwrap_or_else(|unread| panic!("{filter}: {unread:?}"));
    condition.evaluate(&letter())
}

#[track_caller]
fn check(table: &[(&str, Truth)]) {
    for (filter, expect) in table {
        assert_eq!(truth(filter), Ok(*expect), "{filter}");
    }
}

#[track_caller]
fn check_error(filter: &str, expect: &str) {
    let error = truth(filter).expect_err(filter);
    assert!(error.to_string().contains(expect), "{filter}: {error}");
}

#[track_caller]
fn check_refused(filter: &str, expect: &str) {
    let error = SqlFilter::new(filter, parameters()).expect_err(filter);
    assert!(error.message.contains(expect), "{filter}: {error}");
}

#[test]
fn documented_examples() {
    check(&[
        ("1=1", True),
        ("1=0", False),
        ("color='blue' AND quantity=10", True),
        ("user.color='red'", False),
        ("sys.Label LIKE '%bus%'", True),
        (
            "sys.Label LIKE '%bus%' OR user.tag IN ('queue', 'topic', 'subscription')",
            True,
        ),
        (
            "sys.Label LIKE 'bus%' OR user.tag IN ('queue', 'topic')",
            Unknown,
        ),
        ("color IN('Store1', 'blue', 'Store3')", True),
        (
            "sys.To IN ('Store5','Store6') OR color NOT IN ('Store1')",
            True,
        ),
        ("color = @text", True),
        ("[HR-EmployeeID] = 7", True),
        ("\"Contoso & Northwind\" = 'c'", True),
        ("[a]]b] = 1", True),
        (
            "EXISTS(color) AND NOT EXISTS(absent) AND EXISTS(nothing)",
            True,
        ),
        ("EXISTS(sys.Label)", True),
        ("EXISTS(sys.To)", False),
        ("color LIKE 'bl\\%' ESCAPE '\\'", False),
        ("'bl%' LIKE 'bl\\%' ESCAPE '\\'", True),
        ("price < 1894.1204 AND price > 0.5E-2", True),
        ("'it''s' = 'it''s'", True),
        ("property('color') = 'blue'", True),
        ("P('sys.' + 'label') = 'omnibus'", True),
        ("newid() = @guid", True),
    ]);
}

#[test]
fn what_is_missing_is_unknown_and_null_where_it_is_asked() {
    check(&[
        ("absent = 1", Unknown),
        ("absent <> 1", Unknown),
        ("NOT absent = 1", Unknown),
        ("absent = absent", Unknown),
        ("absent + 1 > 0", Unknown),
        ("-absent > 0", Unknown),
        ("+nothing > 0", Unknown),
        ("absent IS NULL", True),
        ("nothing IS NULL", True),
        ("color IS NULL", False),
        ("color IS NOT NULL", True),
        ("absent IS NOT NULL", False),
        ("p('absent') IS NULL", True),
        ("p(absent) IS NULL", True),
        ("sys.To IS NULL", True),
        ("sys.To = 'x'", Unknown),
        ("absent IN (1, 2)", Unknown),
        ("absent NOT IN (1, 2)", Unknown),
        ("quantity IN (1, NULL)", Unknown),
        ("quantity NOT IN (1, NULL)", Unknown),
        ("quantity IN (NULL, 10)", True),
        ("absent LIKE '%'", Unknown),
        ("absent NOT LIKE '%'", Unknown),
        ("color LIKE absent", Unknown),
        ("color NOT LIKE 'x' ESCAPE absent", Unknown),
        ("color LIKE @none", Unknown),
        ("NULL = NULL", Unknown),
        ("@none = 1", Unknown),
        ("1=1 AND absent = 1", Unknown),
        ("1=0 AND absent = 1", False),
        ("absent = 1 AND 1=0", False),
        ("1=1 OR absent = 1", True),
        ("absent = 1 OR 1=1", True),
        ("1=0 OR absent = 1", Unknown),
        ("absent = 1 AND absent = 2", Unknown),
    ]);
}

#[test]
fn values_compare_as_in_c_sharp() {
    check(&[
        ("quantity = 10.0", True),
        ("quantity != @ten", False),
        (
            "price > 2 AND price >= 2.5 AND price < 3 AND price <= 2.5",
            True,
        ),
        // As a double is, the largest long is the next power of two.
        ("largest = 9223372036854775808.0", True),
        ("color = 'Blue'", False),
        ("color < 'blur' AND color > 'Blue'", True),
        ("quantity = '10'", Unknown),
        ("quantity <> 'x'", Unknown),
        ("urgent = TRUE", True),
        ("urgent <> false", True),
        ("urgent > FALSE", Unknown),
        ("urgent = 1", Unknown),
        ("guid = @guid", True),
        ("guid < @guid", Unknown),
        ("guid = '00000000-0000-0000-0000-000000000007'", Unknown),
        ("bytes = @bytes", True),
        ("bytes <> @bytes", False),
        ("never = never", False),
        ("never <> never", True),
        ("never < 1 OR never >= 1", False),
        ("sys.EnqueuedTimeUtc = @noon", True),
        ("sys.EnqueuedTimeUtc < @noon + @hour", True),
        ("sys.EnqueuedTimeUtc - @noon < @hour", True),
        (
            "sys.TimeToLive + sys.TimeToLive < @hour - sys.TimeToLive",
            True,
        ),
        ("-@hour < sys.TimeToLive", True),
        ("sys.enqueuedtimeutc > 5", Unknown),
    ]);
}

#[test]
fn arithmetic_is_that_of_longs_and_doubles() {
    check(&[
        ("quantity / 3 = 3", True),
        ("quantity / 4.0 = 2.5", True),
        ("quantity % 3 = 1 AND -quantity % 3 = -1", True),
        ("1 + 2 * 3 = 7 AND (1 + 2) * 3 = 9", True),
        ("10 - 2 - 3 = 5 AND 100 / 10 / 5 = 2", True),
        ("2 - -3 = 5 AND 2-3 = -1 AND - (2) = -2 AND +2 = 2", True),
        ("-9223372036854775808 < 0", True),
        ("color + '-' + quantity + urgent = 'blue-10True'", True),
        ("1 + 'a' = '1a'", True),
        ("1e3 = 1000 AND 1.5E+1 = 15", True),
        (
            "small = 3 AND small < 3.5 AND small = 3.0 AND small + small = 6",
            True,
        ),
        (
            "-small = -3 AND +small = 3 AND small + 2147483647 > small",
            True,
        ),
        (
            "small / 2 = 1 AND small / 2.0 = 1.5 AND 'n' + small = 'n3'",
            True,
        ),
    ]);
    check_error("quantity / 0 = 1", "divides by zero");
    check_error("price % 0 = 1", "divides by zero");
    check_error("largest + 1 > 0", "too large");
    check_error("-largest - 2 > 0", "too large");
    check_error("-(-9223372036854775808) > 0", "too large");
    check_error("-9223372036854775808 / -1 > 0", "too large");
    check_error("1e308 * 10 > 0", "too large");
    check_error("color - 1 = 1", "no - of a text and a number");
    check_error("urgent + 1 = 1", "no + of a boolean and a number");
    check_error("-color = 1", "a text has no sign");
    check_error("sys.EnqueuedTimeUtc + @noon = 1", "no + of a moment");
}

#[test]
fn patterns() {
    check(&[
        ("color LIKE 'blue'", True),
        ("color LIKE 'Blue'", False),
        ("color LIKE '_l_e'", True),
        ("color LIKE '_l_'", False),
        ("color LIKE '%%u%'", True),
        ("color LIKE 'b%b%'", False),
        ("color LIKE '%_u_'", True),
        ("'' LIKE '%' AND NOT '' LIKE '_'", True),
        ("color LIKE pattern", True),
        ("color LIKE 'b' + '%'", True),
        ("color NOT LIKE 'x%'", True),
        (
            "'a_b' LIKE 'a!_b' ESCAPE @one AND NOT 'axb' LIKE 'a!_b' ESCAPE '!'",
            True,
        ),
        ("'\u{e4}\u{1f600}' LIKE '__'", True),
        ("quantity LIKE '10'", Unknown),
    ]);
    check_error("color LIKE quantity", "it is a text");
    check_error("color LIKE pattern ESCAPE color", "one character");
    check_error("color LIKE pattern + '!' ESCAPE '!'", "escape character");
    check_refused("color LIKE 'a!' ESCAPE '!'", "a character follows");
    check_refused("color LIKE 'a' ESCAPE '!!'", "at character 12");
    check_refused("color LIKE 5", "it is a text");
}

#[test]
fn how_operators_bind() {
    check(&[
        ("1=1 OR 1=1 AND 1=0", True),
        ("(1=1 OR 1=1) AND 1=0", False),
        ("NOT 1=0 AND 1=1", True),
        ("NOT (1=1 OR 1=1)", False),
        ("not NOT 1=1", True),
        ("Color lIkE 'b%' aNd EXISTS ( QUANTITY )", True),
        (
            "sYs.lAbEl = 'omnibus' AND sys.Subject = 'omnibus' AND sys.[label] = 'omnibus'",
            True,
        ),
        ("sys.EnqueuedTime = @noon", True),
        ("((quantity)) > (5 + (1))", True),
        ("user.[color] = 'blue'", True),
    ]);
    let chain = vec!["1=1"; 200].join(" AND ");
    check(&[(&chain, True)]);
}

#[test]
fn a_system_property_that_nobody_has_is_an_error_where_it_is_looked_at() {
    check_error("sys.Colour = 'blue'", "no system property sys.Colour");
    check_error("sys.Colour IS NULL", "without sys.");
    check_error("EXISTS(sys.Colour)", "sys.Colour");
    check_error("p('sys.Colour') = 1", "sys.Colour");
    check_error("p(5) = 1", "is a text, not a number");
    check(&[
        ("1=0 AND sys.Colour = 'blue'", False),
        ("1=1 OR sys.Colour = 'blue'", True),
    ]);
}

#[test]
fn what_cannot_be_read_is_refused_with_place_and_reason() {
    check_refused("", "character 1: the text ends where a value is missing");
    check_refused("color", "compare it, as in flag = TRUE");
    check_refused("TRUE", "a value stands where a condition is needed");
    check_refused("color = ", "character 9");
    check_refused("color = 'blue", "character 9: the text has no end");
    check_refused("[color = 1", "] ends it");
    check_refused("[] = 1", "at least one character");
    check_refused("color = 1 = 1", "character 11: \"=\" is one thing too many");
    check_refused("(1=1) = TRUE", "a condition stands where a value is needed");
    check_refused("1 + (a = 1) > 2", "character 5: a condition");
    check_refused("a = 1 AND b", "character 11: a value stands");
    check_refused("color IN ()", "a value is missing before \")\"");
    check_refused("color IN 'a'", "\"(\" is missing before the text \"a\"");
    check_refused("color IS 5", "NULL is missing before the number 5");
    check_refused("5 IS NULL", "IS NULL asks of a property");
    check_refused("EXISTS('a')", "name of a property is missing");
    check_refused("shop.color = 1", "is sys or user, not \"shop\"");
    check_refused("not = 1", "a value is missing before \"=\"");
    check_refused("like = 1", "is written [like]");
    check_refused("sys. = 1", "name of a property is missing before \"=\"");
    check_refused("_a = 1", "begins with a letter");
    check_refused("now() = 1", "there is no function now");
    check_refused("a = @absent", "there is no parameter @absent");
    check_refused("a = @", "the name of a parameter follows @");
    check_refused("a = 1.", "digits follow the point");
    check_refused("a = 1e", "digits follow the e");
    check_refused("a = 1x", "a letter follows a number");
    check_refused("a = 9223372036854775808", "larger than the largest long");
    check_refused("a = -9223372036854775809", "smaller than the smallest long");
    check_refused("a = 99999999999999999999", "is too large");
    check_refused("a = 1e999", "is too large");
    check_refused("a == 1", "a value is missing before \"=\"");
    check_refused("a & b", "'&' has no meaning here");
    check_refused("a = 1; b = 2", "one thing too many");
}

#[test]
fn texts_and_their_parameters_have_limits() {
    let padded = |length: usize| format!("1=1{}", " ".repeat(length - 3));
    assert!(SqlFilter::new(padded(EXPRESSION_CHARS), Parameters::new()).is_ok());
    check_refused(&padded(EXPRESSION_CHARS + 1), "longer than 1024");
    for (open, close) in [("(", ")"), ("NOT ", "")] {
        let nested = |depth: usize| format!("{}1=1{}", open.repeat(depth), close.repeat(depth));
        assert!(SqlFilter::new(nested(32), Parameters::new()).is_ok());
        check_refused(&nested(33), "nests deeper than 32 levels");
    }
    check_refused(&format!("a = {}1", "- +".repeat(20)), "nests deeper");
    check_refused(
        &format!("a = {}1{}", "p(".repeat(33), ")".repeat(33)),
        "nests deeper",
    );

    let of = |name: &str, value| [(name.to_owned(), value)].into();
    let refused = |parameters: Parameters| SqlFilter::new("1=1", parameters).unwrap_err().message;
    let many = (0..65).map(|at| (at.to_string(), Value::Null)).collect();
    assert!(refused(many).contains("more than 64"));
    assert!(refused(of("a", Value::from("x".repeat(4_097)))).contains("longer than"));
    assert!(refused(of("a", Value::Double(f64::NAN))).contains("no finite number"));
    assert!(refused(of("", Value::Null)).contains("1 to 128"));
    let twice = [
        ("@A".to_owned(), Value::Null),
        ("a".to_owned(), Value::Null),
    ];
    assert!(refused(twice.into()).contains("twice"));
}

fn applied(action: &str) -> Result<Letter, EvaluationError> {
    let action =
        SqlAction::new(action, parameters()).unwrap_or_else(|error| panic!("{action}: {error}"));
    let mut letter = letter();
    action.apply(&mut letter)?;
    Ok(letter)
}

#[test]
fn actions_change_what_they_name_and_see_what_they_changed() {
    let after = applied(
        "SET quantity = quantity / 2; set Quantity = quantity + 1 REMOVE color;;
         SET sys.Label = 'n-' + quantity SET sys.To = newid(); SET [new one] = sys.Label;
         SET price = 3; SET urgent = 1; SET small = small * 2 SET copy = small; SET sys.TimeToLive = @hour; SET sys.ScheduledEnqueueTimeUtc = @noon",
    )
    .unwrap();
    assert_eq!(after.user("QUANTITY"), Some(Value::Long(6)));
    assert_eq!(after.user("color"), None);
    assert_eq!(after.label, Some(Value::from("n-6")));
    assert_eq!(after.to, Some(Value::from(NEW_ID.to_string())));
    assert_eq!(after.user("new one"), Some(Value::from("n-6")));
    assert_eq!(after.user("price"), Some(Value::Double(3.0)));
    assert_eq!(after.user("urgent"), Some(Value::Long(1)));
    assert_eq!(after.user("small"), Some(Value::Int(6)));
    assert_eq!(after.user("copy"), Some(Value::Int(6)));
    let beyond = applied("SET small = 2147483648 SET price = small").unwrap();
    assert_eq!(beyond.user("small"), Some(Value::Long(2_147_483_648)));
    assert_eq!(beyond.user("price"), Some(Value::Double(2_147_483_648.0)));
    assert_eq!(after.time_to_live, Some(Value::Duration(3_600_000)));

    let after =
        applied("SET color = absent; SET fresh = absent + 1; REMOVE sys.Label; REMOVE absent");
    let expect = Letter {
        label: None,
        user: letter()
            .user
            .into_iter()
            .filter(|(name, _)| name != "color")
            .collect(),
        ..letter()
    };
    // Not a number is not itself, so compared as text.
    assert_eq!(format!("{:?}", after.unwrap()), format!("{expect:?}"));
}

#[test]
fn actions_that_fail() {
    for (action, expect) in [
        ("SET sys.Colour = 'x'", "no system property sys.Colour"),
        ("REMOVE sys.Colour", "no system property sys.Colour"),
        ("SET a = sys.Colour", "no system property sys.Colour"),
        ("SET sys.SequenceNumber = 1", "no action changes it"),
        (
            "SET sys.TimeToLive = 5",
            "sys.TimeToLive does not become a number",
        ),
        ("SET sys.Label = bytes", "sys.Label does not become binary"),
        ("SET a = 1 SET b = quantity / 0", "divides by zero"),
    ] {
        let error = applied(action).unwrap_err();
        assert!(error.to_string().contains(expect), "{action}: {error}");
    }
    // Four bytes are 32 KiB after 13 times.
    let doubled = |times| applied(&"SET color = color + color;".repeat(times));
    assert!(doubled(13).is_ok());
    assert_eq!(doubled(14), Err(EvaluationError::TooLong));
    let copied = |times| {
        let long = "SET color = color + color;".repeat(12);
        applied(&format!("{long}{}", "SET b = color;".repeat(times)))
    };
    // 32 KiB of 64 are what the doubling set.
    assert!(copied(2).is_ok());
    assert_eq!(copied(3), Err(EvaluationError::TooLong));
    let long = format!(
        "SET sys.Label = '{}'; {}",
        "x".repeat(600),
        "SET sys.Label = sys.Label + sys.Label"
    );
    assert_eq!(applied(&long), Err(EvaluationError::TooLong));
}

#[test]
fn actions_that_cannot_be_read() {
    for (action, expect) in [
        ("", "at least one statement"),
        ("; SET a = 1", "begins with SET or REMOVE"),
        ("SET a", "\"=\" is missing before the end"),
        ("SET a = b = c", "begins with SET or REMOVE"),
        ("SET a = (b = c)", "a condition stands"),
        ("SET 'a' = 1", "name of a property is missing"),
        ("REMOVE", "name of a property is missing"),
        ("color = 1", "character 1: a statement begins with"),
        (&"REMOVE a ".repeat(33), "at most 32 statements"),
    ] {
        let error = SqlAction::new(action, Parameters::new()).unwrap_err();
        assert!(error.message.contains(expect), "{action}: {error}");
    }
}

#[test]
fn correlation_is_equality_of_all() {
    let of = |properties: &[(&str, Value<'static>)], label: Option<&str>| CorrelationFilter {
        label: label.map(str::to_owned),
        properties: properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
        ..CorrelationFilter::default()
    };
    let matches = |filter: CorrelationFilter| {
        filter.validate().unwrap();
        filter.matches(&letter()).unwrap()
    };
    assert!(matches(of(&[], Some("omnibus"))));
    assert!(!matches(of(&[], Some("Omnibus"))));
    assert!(matches(of(
        &[("COLOR", "blue".into()), ("quantity", Value::Double(10.0))],
        Some("omnibus")
    )));
    assert!(!matches(of(
        &[("color", "blue".into()), ("quantity", Value::Long(9))],
        None
    )));
    assert!(!matches(of(&[("absent", "".into())], None)));
    assert!(!matches(of(&[("nothing", Value::Long(0))], None)));
    assert!(!matches(of(&[("quantity", "10".into())], None)));
    let absent = CorrelationFilter {
        session_id: Some(String::new()),
        ..CorrelationFilter::default()
    };
    assert!(!matches(absent));
    let every = CorrelationFilter {
        message_id: Some("m-1".to_owned()),
        ..of(&[], Some("omnibus"))
    };
    assert!(matches(every.clone()));
    assert!(!matches(CorrelationFilter {
        message_id: Some("m-2".to_owned()),
        ..every
    }));

    assert!(CorrelationFilter::default().validate().is_err());
    assert!(of(&[("a", Value::Null)], None).validate().is_err());
    assert!(of(&[("", Value::Long(1))], None).validate().is_err());
    assert!(of(&[], Some(&"x".repeat(4_097))).validate().is_err());
}

fn rule(name: &str, filter: &str, action: Option<&str>) -> Rule {
    Rule {
        name: name.to_owned(),
        filter: RuleFilter::Sql(SqlFilter::new(filter, parameters()).unwrap()),
        action: action.map(|action| SqlAction::new(action, Parameters::new()).unwrap()),
        created_ms: 1,
    }
}

#[test]
fn five_rules_of_which_two_have_actions_make_three_copies() {
    let matching = [
        rule("a", "1=1", None),
        rule("b", "1=1", Some("SET x = 1")),
        rule("c", "color = 'blue'", None),
        rule("d", "quantity > 5", Some("SET RuleName = 'other'")),
        rule("e", "1=1", None),
    ];
    let selection = select(&matching, &letter());
    let expect = Selection {
        plain: true,
        copies: vec![1, 3],
        failed: None,
    };
    assert_eq!(selection, expect);
    let with_action = select(&matching[1..2], &letter());
    assert!(!with_action.plain && with_action.copies == [0]);
    for at in selection.copies {
        let mut copy = letter();
        matching[at].change(&mut copy).unwrap();
        assert_eq!(
            copy.user(RULE_NAME),
            Some(Value::from(matching[at].name.as_str()))
        );
        assert_eq!(copy.user("x").is_some(), at == 1);
    }
}

#[test]
fn what_fails_is_named_and_the_others_count() {
    let rules = [
        rule("a", "absent = 1", None),
        rule("b", "sys.Colour = 1", None),
        rule("c", "quantity / 0 = 1", None),
        rule("d", "1=1", None),
    ];
    let selection = select(&rules, &letter());
    assert!(selection.plain && selection.copies.is_empty());
    let failed = selection.failed.unwrap();
    assert_eq!(failed.rule, "b");
    assert_eq!(
        failed.error,
        EvaluationError::NoSystemProperty("Colour".to_owned())
    );

    assert_eq!(select(&rules[..1], &letter()), Selection::default());
    let failing = select(&rules[1..3], &letter());
    assert!(!failing.plain && failing.failed.is_some());
    assert_eq!(select(&[], &letter()), Selection::default());
    let constant = |filter| Rule {
        filter,
        ..rule("a", "1=1", None)
    };
    assert!(select(&[constant(RuleFilter::True)], &letter()).plain);
    assert!(!select(&[constant(RuleFilter::False)], &letter()).plain);
}

#[test]
fn names_of_rules() {
    for name in ["$Default", "a", "A rule - 1_x.y", &"x".repeat(50)] {
        rule(name, "1=1", None).validate().unwrap();
    }
    for name in [
        "",
        " ",
        "a/b",
        "a\\b",
        "a?",
        "a#",
        "a*",
        "a@b",
        "a\n",
        &"x".repeat(51),
    ] {
        assert!(rule(name, "1=1", None).validate().is_err(), "{name:?}");
    }
    let empty = RuleFilter::Correlation(CorrelationFilter::default());
    assert!(
        Rule {
            filter: empty,
            ..rule("a", "1=1", None)
        }
        .validate()
        .is_err()
    );
}

#[test]
fn names_of_properties_have_no_case() {
    for (a, b) in [("Color", "cOLOR"), ("\u{c4}pfel", "\u{e4}PFEL"), ("", "")] {
        assert!(same_name(a, b));
    }
    for (a, b) in [("Color", "Colors"), ("\u{c4}", "A"), ("a", "\u{e4}")] {
        assert!(!same_name(a, b));
    }
}

/// What journals hold: the names are a format.
#[test]
fn rules_are_journaled_as_they_were_given() {
    let told = r#"{"name":"r","filter":{"sql":{"expression":" a=@x ","parameters":{"@x":{"double":0.1}}}},"action":{"expression":"REMOVE a"},"created_ms":7}"#;
    let heard: Rule = serde_json::from_str(told).unwrap();
    assert_eq!(serde_json::to_string(&heard).unwrap(), told);
    let told = r#"{"name":"$Default","filter":"true","created_ms":7}"#;
    let heard: Rule = serde_json::from_str(told).unwrap();
    assert_eq!(heard.filter, RuleFilter::True);
    assert_eq!(serde_json::to_string(&heard).unwrap(), told);
    let told = r#"{"name":"c","filter":{"correlation":{"label":"l","properties":{"a":{"binary":"AQI="},"b":{"boolean":true},"c":{"duration":1},"d":{"guid":"00000000-0000-0000-0000-000000000007"},"e":{"long":-1},"e2":{"int":-1},"f":{"moment":2},"g":"null","h":{"text":"t"}}}},"created_ms":7}"#;
    let heard: Rule = serde_json::from_str(told).unwrap();
    assert_eq!(serde_json::to_string(&heard).unwrap(), told);
    for bad in [
        r#"{"name":"r","filter":"true","created_ms":7,"more":1}"#,
        r#"{"name":"r","filter":{"sql":{"expression":"a"}},"created_ms":7}"#,
        r#"{"name":"r","filter":{"sql":{"expression":"a=1","more":1}},"created_ms":7}"#,
        r#"{"name":"r","filter":{"correlation":{"more":"l"}},"created_ms":7}"#,
    ] {
        assert!(serde_json::from_str::<Rule>(bad).is_err(), "{bad}");
    }
}
