//! Verbs: each is one or a few HTTP calls to a running server; the trial of a projection (`trial.rs`) is none.

mod backup;
mod branch;
mod cluster;
mod decider;
mod past;
mod projection;
mod publish;
mod relay;
mod replica;
mod saga;
mod schema;
mod sql;
mod stream;
mod subscription;
mod tail;
mod topic;
mod topology;
mod trace;
mod trial;

use std::io::{IsTerminal, Write};

use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;

use crate::args::{Connection, Output, Verb};
use crate::client::{Client, Error, Response};
use crate::failure::{Code, Failure, Result};
use crate::output;

pub(crate) use backup::restore;
pub(crate) use stream::escape;

const JSON: &str = "application/json";

pub(crate) fn run(verb: Verb) -> Result<()> {
    if let Verb::Verify {
        data_dir: Some(closed),
        noted,
        ..
    } = &verb
    {
        return crate::run::verify(closed, noted.as_deref());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Failed, format!("cannot start: {error}")))?;
    runtime.block_on(async {
        match verb {
            Verb::Pub(publish) => publish::publish(publish).await,
            Verb::Tail(tail) => tail::tail(tail).await,
            Verb::Topic(topic) => topic::run(topic).await,
            Verb::Subscription(subscription) => subscription::run(subscription).await,
            Verb::Stream(stream) => stream::run(stream).await,
            Verb::Fold(fold) => stream::fold(fold).await,
            Verb::Decider(decider) => decider::run(decider).await,
            Verb::Relay(relay) => relay::run(relay).await,
            Verb::Alternative(verb) => past::alternative(verb).await,
            Verb::Schema(schema) => schema::run(schema).await,
            Verb::Projection(projection) => projection::run(projection).await,
            Verb::Replica(replica) => replica::run(replica).await,
            Verb::Saga(saga) => saga::run(saga).await,
            Verb::Topology(verb) => topology::run(verb).await,
            Verb::Sql(asked) => sql::sql(asked).await,
            Verb::Branch(branch) => branch::run(branch).await,
            Verb::Verify {
                connection, noted, ..
            } => projection::verify(connection, noted.as_deref()).await,
            Verb::Trace {
                id,
                time,
                connection,
            } => trace::trace(&id, time.as_deref(), &connection).await,
            Verb::Cluster(connection) => cluster::cluster(connection).await,
            Verb::Backup { file, connection } => backup::backup(file, &connection).await,
        }
    })
}

/// A server and how to show what it says.
struct Caller {
    client: Client,
    output: Output,
}

impl Caller {
    fn new(connection: &Connection) -> Result<Self> {
        let client = match &connection.ca {
            None => Client::new(&connection.server),
            Some(file) => Client::trusting(&connection.server, file),
        };
        let client = client.map_err(failed)?;
        Ok(Self {
            client: with_own_key(client).map_err(failed)?,
            output: connection.output,
        })
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        content_type: Option<&str>,
        body: impl Into<Bytes>,
    ) -> Result<Response> {
        let response = self.client.request(method, path, content_type, body).await;
        let response = response.map_err(failed)?;
        if (200..300).contains(&response.status) && response.status != 207 {
            return Ok(response);
        }
        Err(refused(&response))
    }

    /// Calls for an answer of this kind.
    async fn accept(
        &self,
        method: &str,
        path: &str,
        accept: &'static str,
        body: impl Into<Bytes>,
    ) -> Result<Response> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        let response = self.client.request_with(method, path, headers, body).await;
        let response = response.map_err(failed)?;
        match response.status {
            200 => Ok(response),
            _ => Err(refused(&response)),
        }
    }

    /// Calls and prints: the answer as it is, or what `show` makes of it.
    async fn print(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
        show: impl FnOnce(&Value) -> Result<()>,
    ) -> Result<()> {
        let response = self.call(method, path, Some(JSON), body).await?;
        match self.output {
            Output::Json => output::line(&response.text()),
            Output::Table => show(&json(&response)?),
        }
    }
}

fn json(response: &Response) -> Result<Value> {
    serde_json::from_slice(&response.body).map_err(|error| {
        let message = format!("the answer is not JSON ({error}); is this a Mente server?");
        Failure::new(Code::Failed, message)
    })
}

/// The items of a list in an answer.
fn items<'a>(answer: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    answer
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// Shows the key of the environment, if it holds one: a flag would show it to everyone on the machine.
pub(crate) fn with_own_key(client: Client) -> std::result::Result<Client, Error> {
    match std::env::var("MENTE_KEY") {
        Ok(key) if !key.is_empty() => client.with_key(&key),
        _ => Ok(client),
    }
}

pub(crate) fn failed(error: Error) -> Failure {
    let code = match &error {
        Error::Url(_) | Error::Request(_) | Error::Trust(_) => Code::Usage,
        Error::Unreachable { .. } | Error::Tls { .. } | Error::Broken { .. } => Code::Unreachable,
        Error::LongLine | Error::LongAnswer(_) | Error::Strange(_) => Code::Failed,
        Error::Refused(response) => return refused(response),
    };
    let mut message = error.to_string();
    if let Error::Unreachable { .. } = error {
        message.push_str("; start one with `mente dev`, or name another with --server");
    }
    if let Error::Tls { .. } = error {
        message.push_str(" (--ca names a file of authorities to trust)");
    }
    Failure::new(code, message)
}

/// What the server said, with the exit code that fits its status.
pub(crate) fn refused(response: &Response) -> Failure {
    let code = match response.status {
        400 | 405 | 406 | 413 | 415 => Code::Usage,
        401 | 403 => Code::Denied,
        404 => Code::NotFound,
        409 | 410 => Code::Conflict,
        408 | 504 => Code::TimedOut,
        _ => Code::Failed,
    };
    let body = serde_json::from_slice::<Value>(&response.body).ok();
    let said = body
        .as_ref()
        .and_then(|body| body.pointer("/error/message")?.as_str());
    let mut message = match said {
        Some(said) => output::printable(said),
        None => format!(
            "the server answered {}: {}",
            response.status,
            output::printable(&response.text())
        ),
    };
    if code == Code::Denied {
        message.push_str(" (the environment variable MENTE_KEY holds the key)");
    }
    Failure::new(code, message)
}

/// Asks before something is lost; without a terminal only `--yes` answers.
fn confirm(yes: bool, what: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "{what}? Nobody is there to ask: say --yes"
        )));
    }
    eprint!("{what}? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(Code::Failed, "left as it is"))
}
