//! What holds for every text and every value.

use proptest::collection::vec;
use proptest::prelude::*;

use super::arithmetic::Operator;
use super::expression::{Condition, Expression, Likeness, Property, Scope, Statement};
use super::tests::Letter;
use super::value::{Comparison, Truth};
use super::*;

/// What messages and parameters bring along: the edges more often than what lies between.
fn value() -> impl Strategy<Value = Value<'static>> {
    let long = prop_oneof![
        Just(0),
        Just(1),
        Just(-1),
        Just(i64::MAX),
        Just(i64::MIN),
        any::<i64>()
    ];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        long.clone().prop_map(Value::Long),
        any::<i32>().prop_map(Value::Int),
        any::<f64>().prop_map(Value::Double),
        text().prop_map(Value::from),
        any::<u128>().prop_map(|id| Value::Guid(Uuid::from_u128(id))),
        vec(any::<u8>(), 0..3).prop_map(|bytes| Value::Binary(bytes.into())),
        long.clone().prop_map(Value::Moment),
        long.prop_map(Value::Duration),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        vec(
            prop_oneof![Just('a'), Just('b'), Just('%'), Just('_'), Just('\\')],
            0..6
        )
        .prop_map(String::from_iter),
        Just("sys.Label".to_owned()),
        Just("it's".to_owned()),
        Just("\u{e4}".to_owned()),
    ]
}

/// What a text can say, not what parameters can.
fn constant() -> impl Strategy<Value = Value<'static>> {
    let finite = any::<f64>().prop_filter("a constant is finite", |value| value.is_finite());
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Long),
        Just(Value::Long(i64::MIN)),
        finite.prop_map(Value::Double),
        text().prop_map(Value::from),
    ]
}

const NAMES: &[&str] = &["a", "b", "c d", "and", "x]y", "sys", "p", "\u{e4}1_", "1"];

fn property() -> impl Strategy<Value = Property> {
    let user = prop::sample::select(NAMES).prop_map(|name| Property {
        scope: Scope::User,
        name: name.to_owned(),
    });
    let names = ["Label", "To", "MessageId", "SequenceNumber", "Nobody's"].as_slice();
    let system = prop::sample::select(names).prop_map(|name| Property {
        scope: Scope::System,
        name: name.to_owned(),
    });
    prop_oneof![3 => user, 1 => system]
}

const PARAMETER: &str = "given";

fn parameters() -> Parameters {
    [(PARAMETER.to_owned(), Value::Moment(5))].into()
}

fn expression() -> impl Strategy<Value = Expression> {
    let leaf = prop_oneof![
        3 => constant().prop_map(Expression::Constant),
        3 => property().prop_map(Expression::Property),
        1 => Just(Expression::Parameter(PARAMETER.to_owned(), Value::Moment(5))),
        1 => Just(Expression::NewId),
    ];
    leaf.prop_recursive(3, 12, 3, |part| {
        use Operator::{Add, Divide, Multiply, Remainder, Subtract};
        let boxed = part.clone().prop_map(Box::new);
        let sums = vec(
            (prop::sample::select(vec![Add, Subtract]), part.clone()),
            1..3,
        );
        let products = prop::sample::select(vec![Multiply, Divide, Remainder]);
        let products = vec((products, part), 1..3);
        prop_oneof![
            (boxed.clone(), sums).prop_map(|(first, rest)| Expression::Sum(first, rest)),
            (boxed.clone(), products).prop_map(|(first, rest)| Expression::Product(first, rest)),
            boxed.clone().prop_map(Expression::Negative),
            boxed.clone().prop_map(Expression::Positive),
            boxed.prop_map(Expression::Named),
        ]
    })
}

fn comparison() -> impl Strategy<Value = Comparison> {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    prop::sample::select(vec![
        Equal,
        NotEqual,
        Less,
        LessOrEqual,
        Greater,
        GreaterOrEqual,
    ])
}

fn condition() -> impl Strategy<Value = Condition> {
    let asked = prop_oneof![
        property().prop_map(Expression::Property),
        expression().prop_map(|name| Expression::Named(Box::new(name))),
    ];
    let like = (
        expression(),
        expression(),
        prop::option::of(expression()),
        any::<bool>(),
    );
    let like = like.prop_filter_map("no pattern", |(value, pattern, escape, negated)| {
        let pattern = Likeness::new(pattern, escape).ok()?;
        Some(Condition::Like {
            value,
            pattern,
            negated,
        })
    });
    let leaf = prop_oneof![
        4 => (comparison(), expression(), expression())
            .prop_map(|(comparison, left, right)| Condition::Compare(comparison, left, right)),
        1 => (asked, any::<bool>())
            .prop_map(|(property, negated)| Condition::IsNull { property, negated }),
        1 => (expression(), vec(expression(), 1..4), any::<bool>())
            .prop_map(|(value, among, negated)| Condition::In { value, among, negated }),
        1 => like,
        1 => property().prop_map(Condition::Exists),
    ];
    leaf.prop_recursive(3, 12, 3, |part| {
        prop_oneof![
            vec(part.clone(), 2..4).prop_map(Condition::Or),
            vec(part.clone(), 2..4).prop_map(Condition::And),
            part.prop_map(|part| Condition::Not(Box::new(part))),
        ]
    })
}

fn letter() -> impl Strategy<Value = Letter> {
    let some = || prop::option::of(value());
    (
        some(),
        some(),
        vec((prop::sample::select(NAMES), value()), 0..6),
    )
        .prop_map(|(label, to, user)| Letter {
            label,
            to,
            user: user
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            ..Letter::default()
        })
}

/// Words of the language in any order, and now and then something else.
fn soup() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "AND",
        "OR",
        "NOT",
        "IS",
        "NULL",
        "IN",
        "LIKE",
        "ESCAPE",
        "EXISTS",
        "TRUE",
        "(",
        ")",
        ",",
        ".",
        "=",
        "<>",
        "<",
        ">=",
        "+",
        "-",
        "*",
        "/",
        "%",
        "'a%'",
        "'",
        "[a]",
        "[",
        "\"b\"",
        "@given",
        "@",
        "sys.Label",
        "sys",
        "user",
        "p(",
        "newid()",
        "a",
        "b",
        "0",
        "7",
        "1.5",
        "1e3",
        "9223372036854775807",
        "SET",
        "REMOVE",
        ";",
    ];
    let word = prop_oneof![
        20 => prop::sample::select(WORDS).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    vec(word, 0..24).prop_map(|words| words.join(" "))
}

/// `LIKE` by definition: every way to share the text out.
fn is_like(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|at| is_like(&text[at..], rest)),
        Some(('_', rest)) => !text.is_empty() && is_like(&text[1..], rest),
        Some((c, rest)) => text.first() == Some(c) && is_like(&text[1..], rest),
    }
}

fn not(part: &Condition) -> Condition {
    Condition::Not(Box::new(part.clone()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_is_printed_is_read_as_itself(condition in condition()) {
        let printed = condition.to_string();
        prop_assert_eq!(parser::condition(&printed, &parameters()), Ok(condition), "{}", printed);
    }

    #[test]
    fn statements_too(
        statements in vec(prop_oneof![
            (property(), expression()).prop_map(|(property, value)| Statement::Set(property, value)),
            property().prop_map(Statement::Remove),
        ], 1..5),
    ) {
        let printed: String = statements.iter().map(Statement::to_string).collect();
        prop_assert_eq!(parser::statements(&printed, &parameters()), Ok(statements), "{}", printed);
    }

    #[test]
    fn no_text_and_no_value_panics(text in soup(), mut letter in letter()) {
        if let Ok(filter) = SqlFilter::new(text.as_str(), parameters()) {
            let _ = filter.matches(&letter);
        }
        if let Ok(action) = SqlAction::new(text, parameters()) {
            let _ = action.apply(&mut letter);
        }
    }

    #[test]
    fn not_goes_into_and_and_or(first in condition(), second in condition(), letter in letter()) {
        let both = vec![first.clone(), second.clone()];
        let nots = vec![not(&first), not(&second)];
        prop_assert_eq!(
            not(&Condition::And(both.clone())).evaluate(&letter),
            Condition::Or(nots.clone()).evaluate(&letter)
        );
        prop_assert_eq!(
            not(&Condition::Or(both)).evaluate(&letter),
            Condition::And(nots).evaluate(&letter)
        );
        prop_assert_eq!(not(&not(&first)).evaluate(&letter), first.evaluate(&letter));
    }

    #[test]
    fn in_is_equal_to_one_of(
        value in value(),
        among in vec(value(), 1..4),
        negated in any::<bool>(),
    ) {
        let of = |value: &Value<'static>| Expression::Parameter(PARAMETER.to_owned(), value.clone());
        let each = among.iter().map(|other| Condition::Compare(Comparison::Equal, of(&value), of(other)));
        let either = Condition::Or(each.collect()).evaluate(&Letter::default());
        let within = Condition::In { value: of(&value), among: among.iter().map(of).collect(), negated };
        prop_assert_eq!(within.evaluate(&Letter::default()), either.map(|truth| truth.unless(negated)));
    }

    #[test]
    fn comparisons_agree(left in value(), right in value()) {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let is = |comparison: Comparison| comparison.of(&left, &right);
        prop_assert_eq!(is(Equal), is(NotEqual).not());
        prop_assert_eq!(is(Less), Greater.of(&right, &left));
        prop_assert_eq!(is(LessOrEqual), GreaterOrEqual.of(&right, &left));
        if is(Less) != Truth::Unknown {
            let either = is(Less) == Truth::True || is(Equal) == Truth::True;
            prop_assert_eq!(is(LessOrEqual), Truth::from(either));
        }
    }

    #[test]
    fn like_is_what_it_says(
        text in vec(prop_oneof![Just('a'), Just('b'), Just('\u{e4}')], 0..8),
        pattern in vec(prop_oneof![Just('a'), Just('b'), Just('\u{e4}'), Just('%'), Just('_')], 0..8),
    ) {
        let made = pattern::Pattern::new(&String::from_iter(&pattern), None).unwrap();
        prop_assert_eq!(made.matches(&String::from_iter(&text)), is_like(&text, &pattern));
    }

    #[test]
    fn correlation_is_a_conjunction_of_equalities(
        wanted in prop::collection::btree_map(prop::sample::select(NAMES).prop_map(str::to_owned), value(), 1..3),
        letter in letter(),
    ) {
        let each = wanted.iter().map(|(name, value)| {
            let property = Property { scope: Scope::User, name: name.clone() };
            let value = Expression::Parameter(PARAMETER.to_owned(), value.clone());
            Condition::Compare(Comparison::Equal, Expression::Property(property), value)
        });
        let all = Condition::And(each.collect()).evaluate(&letter);
        let filter = CorrelationFilter { properties: wanted, ..CorrelationFilter::default() };
        prop_assert_eq!(filter.matches(&letter), all.map(|truth| truth == Truth::True));
    }
}
