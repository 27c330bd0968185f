//! A text read by the grammar of Service Bus' "SQL filter syntax" and "SQL action syntax". `NOT` binds closer than
//! `AND`, and `AND` closer than `OR`; a comparison stands once between values.

use mente_engine::limits::NESTING_DEPTH;

use super::arithmetic::Operator;
use super::expression::{Condition, Expression, Likeness, Property, Scope, Statement};
use super::lexer::{Kind, RESERVED, Token, Unread, tokens, unread};
use super::value::{Comparison, Value};
use super::{Parameters, STATEMENTS, system};

type Result<T> = std::result::Result<T, Unread>;

pub(super) fn condition(text: &str, parameters: &Parameters) -> Result<Condition> {
    let mut parser = Parser::new(text, parameters)?;
    let condition = parser.condition(Parser::disjunction)?;
    match parser.peek() {
        Kind::End => Ok(condition),
        other => Err(parser.wrong(&format!("{} is one thing too many", spelt(other)))),
    }
}

pub(super) fn statements(text: &str, parameters: &Parameters) -> Result<Vec<Statement>> {
    let mut parser = Parser::new(text, parameters)?;
    let mut statements = Vec::new();
    while *parser.peek() != Kind::End {
        if statements.len() == STATEMENTS {
            return Err(parser.wrong(&format!("an action has at most {STATEMENTS} statements")));
        }
        statements.push(parser.statement()?);
        // Between two of them it may be missing.
        while parser.takes(";") {}
    }
    if statements.is_empty() {
        return Err(parser.wrong("an action has at least one statement, SET or REMOVE"));
    }
    Ok(statements)
}

/// Between brackets lies the one or the other.
enum Node {
    Condition(Condition),
    Value(Expression),
}

struct Parser<'a> {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    parameters: &'a Parameters,
}

impl<'a> Parser<'a> {
    fn new(text: &str, parameters: &'a Parameters) -> Result<Self> {
        Ok(Self {
            tokens: tokens(text)?,
            next: 0,
            depth: 0,
            parameters,
        })
    }

    fn statement(&mut self) -> Result<Statement> {
        if self.takes_word("REMOVE") {
            return self.property().map(Statement::Remove);
        }
        if !self.takes_word("SET") {
            return Err(self.wrong("a statement begins with SET or REMOVE"));
        }
        let property = self.property()?;
        self.expect("=")?;
        let value = self.value(Self::sum)?;
        Ok(Statement::Set(property, value))
    }

    fn disjunction(&mut self) -> Result<Node> {
        self.chain("OR", Self::conjunction, Condition::Or)
    }

    fn conjunction(&mut self) -> Result<Node> {
        self.chain("AND", Self::negation, Condition::And)
    }

    fn chain(
        &mut self,
        word: &str,
        part: fn(&mut Self) -> Result<Node>,
        make: fn(Vec<Condition>) -> Condition,
    ) -> Result<Node> {
        let at = self.at();
        let first = part(self)?;
        if !self.is_word(word) {
            return Ok(first);
        }
        let mut parts = vec![as_condition(first, at)?];
        while self.takes_word(word) {
            parts.push(self.condition(part)?);
        }
        Ok(Node::Condition(make(parts)))
    }

    fn negation(&mut self) -> Result<Node> {
        if !self.takes_word("NOT") {
            return self.comparison();
        }
        let part = self.deeper(|parser| parser.condition(Self::negation))?;
        Ok(Node::Condition(Condition::Not(Box::new(part))))
    }

    fn comparison(&mut self) -> Result<Node> {
        let at = self.at();
        let left = self.sum()?;
        let condition = if let Some(comparison) = self.takes_comparison() {
            let right = self.value(Self::sum)?;
            Condition::Compare(comparison, as_value(left, at)?, right)
        } else if self.takes_word("IS") {
            let negated = self.takes_word("NOT");
            self.expect_word("NULL")?;
            match as_value(left, at)? {
                property @ (Expression::Property(_) | Expression::Named(_)) => {
                    Condition::IsNull { property, negated }
                }
                _ => return Err(unread(at, "IS NULL asks of a property")),
            }
        } else {
            let negated = self.is_word("NOT") && (self.follows("IN") || self.follows("LIKE"));
            self.next += usize::from(negated);
            if self.takes_word("IN") {
                let value = as_value(left, at)?;
                self.among(value, negated)?
            } else if self.takes_word("LIKE") {
                let value = as_value(left, at)?;
                self.like(value, negated)?
            } else {
                return Ok(left);
            }
        };
        Ok(Node::Condition(condition))
    }

    fn among(&mut self, value: Expression, negated: bool) -> Result<Condition> {
        self.expect("(")?;
        let mut among = vec![self.value(Self::sum)?];
        while self.takes(",") {
            among.push(self.value(Self::sum)?);
        }
        self.expect(")")?;
        Ok(Condition::In {
            value,
            among,
            negated,
        })
    }

    fn like(&mut self, value: Expression, negated: bool) -> Result<Condition> {
        let at = self.at();
        let pattern = self.value(Self::sum)?;
        let escape = if self.takes_word("ESCAPE") {
            Some(self.value(Self::sum)?)
        } else {
            None
        };
        let pattern =
            Likeness::new(pattern, escape).map_err(|error| unread(at, &error.to_string()))?;
        Ok(Condition::Like {
            value,
            pattern,
            negated,
        })
    }

    fn sum(&mut self) -> Result<Node> {
        const SIGNS: &[(&str, Operator)] = &[("+", Operator::Add), ("-", Operator::Subtract)];
        self.computed(SIGNS, Self::product, Expression::Sum)
    }

    fn product(&mut self) -> Result<Node> {
        const SIGNS: &[(&str, Operator)] = &[
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("%", Operator::Remainder),
        ];
        self.computed(SIGNS, Self::signed, Expression::Product)
    }

    fn computed(
        &mut self,
        signs: &[(&str, Operator)],
        part: fn(&mut Self) -> Result<Node>,
        make: fn(Box<Expression>, Vec<(Operator, Expression)>) -> Expression,
    ) -> Result<Node> {
        let at = self.at();
        let first = part(self)?;
        let mut rest = Vec::new();
        while let Some((_, operator)) = signs.iter().find(|(sign, _)| self.takes(sign)) {
            rest.push((*operator, self.value(part)?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        let first = Box::new(as_value(first, at)?);
        Ok(Node::Value(make(first, rest)))
    }

    fn signed(&mut self) -> Result<Node> {
        if self.takes("+") {
            let part = self.deeper(|parser| parser.value(Self::signed))?;
            return Ok(Node::Value(Expression::Positive(Box::new(part))));
        }
        if !self.takes("-") {
            return self.primary();
        }
        let at = self.at();
        // The sign belongs to the number: the smallest long is not the negative of any.
        let value = match *self.peek() {
            Kind::Integer(number) => Value::Long(
                0i64.checked_sub_unsigned(number)
                    .ok_or_else(|| unread(at, "the number is smaller than the smallest long"))?,
            ),
            Kind::Double(number) => Value::Double(-number),
            _ => {
                let part = self.deeper(|parser| parser.value(Self::signed))?;
                return Ok(Node::Value(Expression::Negative(Box::new(part))));
            }
        };
        self.next += 1;
        Ok(Node::Value(Expression::Constant(value)))
    }

    fn primary(&mut self) -> Result<Node> {
        let at = self.at();
        let constant = |value| Ok(Node::Value(Expression::Constant(value)));
        match self.peek().clone() {
            Kind::Integer(number) => {
                let number = i64::try_from(number)
                    .map_err(|_| unread(at, "the number is larger than the largest long"))?;
                self.next += 1;
                constant(Value::Long(number))
            }
            Kind::Double(number) => {
                self.next += 1;
                constant(Value::Double(number))
            }
            Kind::Text(text) => {
                self.next += 1;
                constant(Value::from(text))
            }
            Kind::Parameter(name) => {
                self.next += 1;
                let value = parameter(self.parameters, &name).ok_or_else(|| {
                    unread(
                        at,
                        &format!("there is no parameter @{name}; give it with the text"),
                    )
                })?;
                Ok(Node::Value(Expression::Parameter(name, value.clone())))
            }
            Kind::Symbol("(") => {
                self.next += 1;
                let inside = self.deeper(Self::disjunction)?;
                self.expect(")")?;
                Ok(inside)
            }
            Kind::Word(word) => self.word(&word),
            Kind::Name(_) => self.property().map(Expression::Property).map(Node::Value),
            Kind::Symbol(symbol) => {
                Err(self.wrong(&format!("a value is missing before {symbol:?}")))
            }
            Kind::End => Err(self.wrong("the text ends where a value is missing")),
        }
    }

    fn word(&mut self, word: &str) -> Result<Node> {
        let is = |other: &str| word.eq_ignore_ascii_case(other);
        let constant = match () {
            () if is("TRUE") => Some(Value::Boolean(true)),
            () if is("FALSE") => Some(Value::Boolean(false)),
            () if is("NULL") => Some(Value::Null),
            () => None,
        };
        if let Some(value) = constant {
            self.next += 1;
            return Ok(Node::Value(Expression::Constant(value)));
        }
        if is("EXISTS") {
            self.next += 1;
            self.expect("(")?;
            let property = self.property()?;
            self.expect(")")?;
            return Ok(Node::Condition(Condition::Exists(property)));
        }
        let called = self.kind_after() == Some(&Kind::Symbol("("));
        if !called || reserved(word) {
            return self.property().map(Expression::Property).map(Node::Value);
        }
        let function = if is("newid") {
            self.next += 2;
            Expression::NewId
        } else if is("property") || is("p") {
            self.next += 2;
            let name = self.deeper(|parser| parser.value(Self::sum))?;
            Expression::Named(Box::new(name))
        } else {
            return Err(self.wrong(&format!(
                "there is no function {word}; there are newid(), property(name) and p(name)"
            )));
        };
        self.expect(")")?;
        Ok(Node::Value(function))
    }

    fn property(&mut self) -> Result<Property> {
        let at = self.at();
        let scoped = self.kind_after() == Some(&Kind::Symbol("."));
        let first = self.name()?;
        if !scoped {
            return Ok(Property {
                scope: Scope::User,
                name: first,
            });
        }
        let scope = match first.to_ascii_lowercase().as_str() {
            "sys" => Scope::System,
            "user" => Scope::User,
            _ => {
                return Err(unread(
                    at,
                    &format!(
                        "the scope of a property is sys or user, not {first:?}; a name with a point is written between brackets"
                    ),
                ));
            }
        };
        self.next += 1;
        let name = self.name()?;
        let name = match scope {
            Scope::System => system::spelling(&name).to_owned(),
            Scope::User => name,
        };
        Ok(Property { scope, name })
    }

    fn name(&mut self) -> Result<String> {
        let name = match self.peek() {
            Kind::Word(word) if reserved(word) => {
                return Err(self.wrong(&format!(
                    "{word} is a word of the language where a property belongs; one of that name is written [{word}]"
                )));
            }
            Kind::Word(name) | Kind::Name(name) => name.clone(),
            other => {
                return Err(self.wrong(&format!(
                    "the name of a property is missing before {}",
                    spelt(other)
                )));
            }
        };
        self.next += 1;
        Ok(name)
    }

    fn condition(&mut self, part: fn(&mut Self) -> Result<Node>) -> Result<Condition> {
        let at = self.at();
        part(self).and_then(|node| as_condition(node, at))
    }

    fn value(&mut self, part: fn(&mut Self) -> Result<Node>) -> Result<Expression> {
        let at = self.at();
        part(self).and_then(|node| as_value(node, at))
    }

    fn deeper<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == NESTING_DEPTH {
            return Err(self.wrong(&format!("it nests deeper than {NESTING_DEPTH} levels")));
        }
        self.depth += 1;
        let made = part(self)?;
        self.depth -= 1;
        Ok(made)
    }

    fn takes_comparison(&mut self) -> Option<Comparison> {
        let Kind::Symbol(symbol) = *self.peek() else {
            return None;
        };
        let comparison = match symbol {
            "=" => Comparison::Equal,
            "<>" | "!=" => Comparison::NotEqual,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return None,
        };
        self.next += 1;
        Some(comparison)
    }

    fn takes(&mut self, symbol: &str) -> bool {
        let takes = matches!(self.peek(), Kind::Symbol(own) if *own == symbol);
        self.next += usize::from(takes);
        takes
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let takes = self.is_word(word);
        self.next += usize::from(takes);
        takes
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Kind::Word(own) if own.eq_ignore_ascii_case(word))
    }

    fn follows(&self, word: &str) -> bool {
        matches!(self.kind_after(), Some(Kind::Word(own)) if own.eq_ignore_ascii_case(word))
    }

    fn expect(&mut self, symbol: &str) -> Result<()> {
        if self.takes(symbol) {
            return Ok(());
        }
        let found = spelt(self.peek());
        Err(self.wrong(&format!("{symbol:?} is missing before {found}")))
    }

    fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.takes_word(word) {
            return Ok(());
        }
        let found = spelt(self.peek());
        Err(self.wrong(&format!("{word} is missing before {found}")))
    }

    /// The last one is the end, and it is never taken.
    fn peek(&self) -> &Kind {
        self.tokens
            .get(self.next)
            .map_or(&Kind::End, |token| &token.kind)
    }

    fn kind_after(&self) -> Option<&Kind> {
        self.tokens.get(self.next + 1).map(|token| &token.kind)
    }

    fn at(&self) -> usize {
        let last = self.tokens.last();
        let token = self.tokens.get(self.next).or(last);
        token.map_or(1, |token| token.at)
    }

    fn wrong(&self, why: &str) -> Unread {
        unread(self.at(), why)
    }
}

fn as_condition(node: Node, at: usize) -> Result<Condition> {
    match node {
        Node::Condition(condition) => Ok(condition),
        Node::Value(_) => Err(unread(
            at,
            "a value stands where a condition is needed; compare it, as in flag = TRUE",
        )),
    }
}

fn as_value(node: Node, at: usize) -> Result<Expression> {
    match node {
        Node::Value(value) => Ok(value),
        Node::Condition(_) => Err(unread(at, "a condition stands where a value is needed")),
    }
}

/// Clients name it with the @ or without.
fn parameter<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a Value<'static>> {
    let found = parameters.iter().find(|(given, _)| {
        let given = given.strip_prefix('@').unwrap_or(given);
        super::same_name(given, name)
    });
    found.map(|(_, value)| value)
}

fn reserved(word: &str) -> bool {
    RESERVED.iter().any(|own| own.eq_ignore_ascii_case(word))
}

fn spelt(kind: &Kind) -> String {
    match kind {
        Kind::Word(text) | Kind::Name(text) => format!("{text:?}"),
        Kind::Text(text) => format!("the text {text:?}"),
        Kind::Integer(number) => format!("the number {number}"),
        Kind::Double(number) => format!("the number {number}"),
        Kind::Parameter(name) => format!("@{name}"),
        Kind::Symbol(symbol) => format!("{symbol:?}"),
        Kind::End => "the end".to_owned(),
    }
}
