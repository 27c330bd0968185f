//! Runs the statements of events in a transaction.
//!
//! PostgreSQL takes a statement before it has answered the last one, so many are on their way at
//! a time. They are handed to the connection one after the other, in the order of the events.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use mente_broker::Projected;
use mente_engine::limits;
use serde_json::Value;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Statement, Transaction};

use super::statement::{Use, parameters, translate};
use crate::postgres::{may_pass, words};
use crate::projection::database::Owner;
use crate::projection::declaration::Parameter;
use crate::projection::fact::Fact;
use crate::projection::program::{Given, given};
use crate::projection::status::{At, Failure};

/// Statements on their way at one time.
const ON_THEIR_WAY: usize = 256;
/// Statements of a program that are kept compiled.
const KEPT: usize = 256;
/// PostgreSQL ends a statement by itself; a server that says nothing for longer stands still.
const ANSWER_WAIT: Duration = Duration::from_millis(limits::POSTGRES_STATEMENT_MS + 5_000);

/// Statements that this session has compiled, by their SQL.
#[derive(Debug, Default)]
pub(super) struct Prepared(BTreeMap<String, Arc<Compiled>>);

struct Compiled {
    statement: Statement,
    /// Of a declared statement.
    parameters: Vec<Parameter>,
    names: Vec<String>,
}

/// One statement that an event runs.
struct Step<'a> {
    sql: Cow<'a, str>,
    /// The parameters, if a program said it.
    given: Option<Given>,
}

/// A value in the form that PostgreSQL reads for every type.
struct Text(Option<String>);

/// An answer that will come, and whose it is.
struct Awaited<'a> {
    index: usize,
    sql: Cow<'a, str>,
    answer: Pin<Box<dyn Future<Output = Result<u64, tokio_postgres::Error>> + Send + 'a>>,
}

/// Runs the statements of each fact; answers how many facts had some, or which one failed first.
pub(super) async fn run(
    transaction: &Transaction<'_>,
    prepared: &mut Prepared,
    owner: &Owner,
    facts: &[&Fact],
) -> Result<u64, (usize, Failure)> {
    let declaration = &*owner.declaration;
    let program = owner
        .programs
        .of(declaration)
        .map_err(|failure| (0, failure))?;
    let mut applied = 0;
    let mut awaited = VecDeque::new();
    for (index, fact) in facts.iter().enumerate() {
        let steps = match (&program, declaration.on.get(&fact.event.kind)) {
            (Some(program), _) => match program.project(fact) {
                Ok(told) => told.into_iter().map(Step::of_program).collect(),
                Err(failure) => {
                    // One before it may have failed as well, and comes first.
                    answers(&mut awaited, 0, facts).await?;
                    return Err((index, failure));
                }
            },
            (None, Some(statements)) => statements.iter().map(|sql| Step::declared(sql)).collect(),
            (None, None) => Vec::new(),
        };
        applied += u64::from(!steps.is_empty());
        for step in steps {
            let failed = |failure: Failure| (index, failure.at(At::of(fact)));
            let compiled = match prepared.get(&step) {
                Some(compiled) => compiled,
                None => {
                    // What fails before shows as itself, not as a transaction that is aborted.
                    answers(&mut awaited, 0, facts).await?;
                    let compiled = compile(transaction, &step).await.map_err(failed)?;
                    prepared.keep(&step, compiled)
                }
            };
            let values = match step.values(&compiled, fact) {
                Ok(values) => values,
                Err(failure) => {
                    // What failed before it comes first.
                    answers(&mut awaited, 0, facts).await?;
                    return Err(failed(failure));
                }
            };
            awaited.push_back(send(transaction, compiled, index, step.sql, values).await);
            answers(&mut awaited, ON_THEIR_WAY - 1, facts).await?;
        }
    }
    answers(&mut awaited, 0, facts).await?;
    Ok(applied)
}

impl Prepared {
    fn get(&self, step: &Step<'_>) -> Option<Arc<Compiled>> {
        self.0.get(&*step.sql).map(Arc::clone)
    }

    /// A program may write its values into its SQL, and then no two statements are the same.
    fn keep(&mut self, step: &Step<'_>, compiled: Compiled) -> Arc<Compiled> {
        if step.given.is_some() && self.0.len() >= KEPT {
            self.0.clear();
        }
        let compiled = Arc::new(compiled);
        self.0
            .insert(step.sql.clone().into_owned(), Arc::clone(&compiled));
        compiled
    }
}

impl<'a> Step<'a> {
    fn declared(sql: &'a str) -> Self {
        Self {
            sql: Cow::Borrowed(sql),
            given: None,
        }
    }

    fn of_program(told: Projected) -> Self {
        Self {
            sql: Cow::Owned(told.sql),
            given: Some(told.params),
        }
    }

    /// What the parameters are: parts of the event, or what the program gave.
    fn values(&self, compiled: &Compiled, fact: &Fact) -> Result<Vec<Text>, Failure> {
        let Some(params) = &self.given else {
            let parameters = compiled.parameters.iter();
            return Ok(parameters
                .map(|&parameter| Text(fact.text(parameter)))
                .collect());
        };
        let value = |name: &String| {
            Ok(Text(match given(params, name)? {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            }))
        };
        let values: Result<_, String> = compiled.names.iter().map(value).collect();
        values.map_err(|message| Failure::statement(&self.sql, message).of_event(true))
    }
}

/// Compiles a declared statement.
pub(super) async fn check(transaction: &Transaction<'_>, sql: &str) -> Result<(), Failure> {
    compile(transaction, &Step::declared(sql)).await.map(drop)
}

async fn compile(transaction: &Transaction<'_>, step: &Step<'_>) -> Result<Compiled, Failure> {
    let sql = &*step.sql;
    // What a program says is of the event; what is declared was compiled before, and fails for each.
    let is_of_event = step.given.is_some();
    let refused = |message: String| Failure::statement(sql, message).of_event(is_of_event);
    let translated = translate(sql, Use::Change).map_err(refused)?;
    let (parameters, types) = match step.given {
        None => parameters(&translated.names).map_err(refused)?,
        // PostgreSQL finds out what they are.
        Some(_) => (Vec::new(), Vec::new()),
    };
    let prepared = transaction.prepare_typed(&translated.sql, &types).await;
    let failed = |error| {
        let failure = failed(sql, &error);
        let is_of_event = is_of_event && (failure.is_of_event || is_statement(&error));
        failure.of_event(is_of_event)
    };
    let statement = prepared.map_err(failed)?;
    if !statement.columns().is_empty() {
        let message = "the statement answers rows: INSERT, UPDATE, DELETE or MERGE is needed, without RETURNING";
        return Err(refused(message.to_owned()));
    }
    Ok(Compiled {
        statement,
        parameters,
        names: translated.names,
    })
}

/// Hands a statement to the connection; its answer is waited for elsewhere.
async fn send<'a>(
    transaction: &'a Transaction<'_>,
    compiled: Arc<Compiled>,
    index: usize,
    sql: Cow<'a, str>,
    values: Vec<Text>,
) -> Awaited<'a> {
    let mut answer: Pin<Box<dyn Future<Output = _> + Send + 'a>> =
        Box::pin(async move { transaction.execute_raw(&compiled.statement, values).await });
    // The first poll puts it into the connection's queue.
    if let Poll::Ready(answered) = futures::poll!(answer.as_mut()) {
        answer = Box::pin(std::future::ready(answered));
    }
    Awaited { index, sql, answer }
}

/// Waits until no more than `left` answers are missing.
async fn answers(
    awaited: &mut VecDeque<Awaited<'_>>,
    left: usize,
    facts: &[&Fact],
) -> Result<(), (usize, Failure)> {
    while awaited.len() > left {
        let Some(Awaited { index, sql, answer }) = awaited.pop_front() else {
            break;
        };
        let Ok(answered) = tokio::time::timeout(ANSWER_WAIT, answer).await else {
            let message = "PostgreSQL does not answer: is it stopped, or cut off?".to_owned();
            return Err((index, Failure::passing(message)));
        };
        if let Err(error) = answered {
            let failure = failed(&sql, &error);
            let at = facts.get(index).map(|fact| At::of(fact));
            return Err((index, Failure { at, ..failure }));
        }
    }
    Ok(())
}

/// Of a statement of the declaration.
fn failed(sql: &str, error: &tokio_postgres::Error) -> Failure {
    if error.code().is_none() && !error.is_closed() && !is_of_the_wire(error) {
        // The client's own doing, such as a value that is larger than the protocol has room for.
        return Failure::statement(sql, words(error)).of_event(true);
    }
    let failure = Failure {
        retry: may_pass(error),
        ..Failure::statement(sql, words(error))
    };
    failure.of_event(is_of_event(error))
}

/// Whether another event might go well where this error came: values that are none of their type, that
/// break a constraint or are too much, an exception that somebody raised. Not a statement that takes too long,
/// which may be the machine's doing.
fn is_of_event(error: &tokio_postgres::Error) -> bool {
    let class = error.code().and_then(|code| code.code().get(..2));
    class.is_some_and(|class| matches!(class, "21" | "22" | "23" | "44" | "54" | "P0"))
}

/// Whether the statement is none, or of tables that are not there; not whether it is forbidden.
fn is_statement(error: &tokio_postgres::Error) -> bool {
    let code = error.code().map(tokio_postgres::error::SqlState::code);
    code.is_some_and(|code| code.starts_with("42") && code != "42501")
}

fn is_of_the_wire(error: &tokio_postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(why) = cause {
        if why.is::<std::io::Error>() {
            return true;
        }
        cause = why.source();
    }
    false
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.names).finish()
    }
}

impl ToSql for Text {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Some(text) = &self.0 else {
            return Ok(IsNull::Yes);
        };
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// The library writes parameters into its own log where that is told to say everything: an event's
/// data has no place there.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "…" } else { "NULL" })
    }
}
