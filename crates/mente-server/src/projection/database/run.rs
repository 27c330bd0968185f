//! What events do to the rows: statements by type, or those of a program.

use std::collections::BTreeMap;

use rusqlite::types::Value as Bound;
use rusqlite::{CachedStatement, Connection};
use serde_json::Value;

use super::{Owner, is_of_event, may_pass};
use crate::projection::declaration::Parameter;
use crate::projection::fact::Fact;
use crate::projection::program::{Given, Program, given};
use crate::projection::sandbox::Rules;
use crate::projection::status::{At, Failure};

/// Runs the statements of each fact; answers how many facts had some.
pub(super) fn run(
    transaction: &Connection,
    rules: &Rules,
    owner: &Owner,
    facts: &[&Fact],
) -> Result<u64, (usize, Failure)> {
    let declaration = &*owner.declaration;
    let program = owner.programs.of(declaration);
    if let Some(program) = program.map_err(|failure| (0, failure))? {
        return run_program(transaction, rules, &program, facts);
    }
    let mut applied = 0;
    let mut prepared: BTreeMap<&str, Vec<Prepared<'_>>> = BTreeMap::new();
    for (index, fact) in facts.iter().enumerate() {
        let kind = fact.event.kind.as_str();
        let Some((kind, statements)) = declaration.on.get_key_value(kind) else {
            continue;
        };
        let failed = |statement: &str, error: String| {
            (index, Failure::statement(statement, error).at(At::of(fact)))
        };
        if !prepared.contains_key(kind.as_str()) {
            let mut compiled = Vec::with_capacity(statements.len());
            for sql in statements {
                let statement = Prepared::new(transaction, rules, sql);
                compiled.push(statement.map_err(|refused| {
                    let retry = refused.may_pass;
                    let (index, failure) = failed(sql, refused.message);
                    (index, Failure { retry, ..failure })
                })?);
            }
            prepared.insert(kind, compiled);
        }
        for statement in prepared.get_mut(kind.as_str()).into_iter().flatten() {
            rules.renew();
            statement.run(fact).map_err(|error| {
                let retry = may_pass(&error);
                // Whoever stops us interrupts what runs, and tables may have gone: no event is to blame.
                let is_of_event = is_of_event(&error)
                    && !rules.stopping()
                    && transaction.prepare(statement.sql).is_ok();
                let (index, failure) = failed(statement.sql, rules.explain(&error));
                let failure = Failure { retry, ..failure };
                (index, failure.of_event(is_of_event))
            })?;
        }
        applied += 1;
    }
    Ok(applied)
}

/// Runs what a program says of each fact; answers of how many it said something.
fn run_program(
    transaction: &Connection,
    rules: &Rules,
    program: &Program,
    facts: &[&Fact],
) -> Result<u64, (usize, Failure)> {
    let mut applied = 0;
    for (index, fact) in facts.iter().enumerate() {
        let told = program.project(fact).map_err(|failure| (index, failure))?;
        for projected in &told {
            rules.renew();
            let ran = run_one(transaction, rules, &projected.sql, &projected.params);
            ran.map_err(|failure| (index, failure.at(At::of(fact))))?;
        }
        applied += u64::from(!told.is_empty());
    }
    Ok(applied)
}

fn run_one(
    transaction: &Connection,
    rules: &Rules,
    sql: &str,
    params: &Given,
) -> Result<(), Failure> {
    // The event made the statement too.
    let refused = |message: String| Failure::statement(sql, message).of_event(true);
    let failed = |error: rusqlite::Error| {
        let is_of_event = is_of_event(&error) && !rules.stopping();
        let failure = Failure {
            retry: may_pass(&error),
            ..Failure::statement(sql, rules.explain(&error))
        };
        failure.of_event(is_of_event)
    };
    let statement = changing(transaction, rules, sql).map_err(|refused| {
        let failure = Failure {
            retry: refused.may_pass,
            ..Failure::statement(sql, refused.message)
        };
        failure.of_event(refused.is_of_event)
    });
    let mut statement = statement?;
    for index in 1..=statement.parameter_count() {
        let name = statement
            .parameter_name(index)
            .and_then(|name| name.strip_prefix(':'));
        let name = name.ok_or_else(|| refused("parameters are written :NAME".to_owned()))?;
        let value = match given(params, name).map_err(refused)? {
            Value::Null => Bound::Null,
            Value::Bool(value) => Bound::Integer(i64::from(*value)),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => Bound::Integer(integer),
                None => number.as_f64().map_or(Bound::Null, Bound::Real),
            },
            Value::String(text) => Bound::Text(text.clone()),
            // The prelude made text of them.
            other @ (Value::Array(_) | Value::Object(_)) => Bound::Text(other.to_string()),
        };
        statement.raw_bind_parameter(index, value).map_err(failed)?;
    }
    statement.raw_execute().map(drop).map_err(failed)
}

/// Why a statement does not compile.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) message: String,
    /// The database was locked, say.
    may_pass: bool,
    /// Another event's statement might compile.
    is_of_event: bool,
}

impl From<String> for Refused {
    fn from(message: String) -> Self {
        Self {
            message,
            may_pass: false,
            is_of_event: true,
        }
    }
}

/// Compiles a statement that changes rows and answers none.
fn changing<'a>(
    transaction: &'a Connection,
    rules: &Rules,
    sql: &str,
) -> Result<CachedStatement<'a>, Refused> {
    let statement = transaction.prepare_cached(sql).map_err(|error| Refused {
        is_of_event: is_of_event(&error) && !rules.stopping(),
        message: rules.explain(&error),
        may_pass: may_pass(&error),
    })?;
    if statement.column_count() > 0 || statement.readonly() {
        return Err(Refused::from(
            "the statement changes nothing or answers rows: INSERT, UPDATE or DELETE \
             is needed, without RETURNING"
                .to_owned(),
        ));
    }
    Ok(statement)
}

/// A compiled statement and which parts of an event its parameters are.
pub(super) struct Prepared<'a> {
    sql: &'a str,
    statement: CachedStatement<'a>,
    parameters: Vec<Parameter>,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(
        transaction: &'a Connection,
        rules: &Rules,
        sql: &'a str,
    ) -> Result<Self, Refused> {
        let statement = changing(transaction, rules, sql)?;
        let named = |index| Parameter::named(statement.parameter_name(index));
        let parameters = (1..=statement.parameter_count())
            .map(named)
            .collect::<Result<_, String>>()?;
        Ok(Self {
            sql,
            statement,
            parameters,
        })
    }

    pub(super) fn has(&self, parameter: Parameter) -> bool {
        self.parameters.contains(&parameter)
    }

    fn run(&mut self, fact: &Fact) -> rusqlite::Result<()> {
        for (parameter, index) in self.parameters.iter().zip(1usize..) {
            fact.bind(*parameter, index, &mut self.statement)?;
        }
        self.statement.raw_execute().map(|_| ())
    }
}
