//! What clients call of the store beyond a stream of its own, and of what was given up.

use std::future::ready;

use mente_broker::error::Kind;
use mente_broker::identity::derived;
use mente_broker::{
    Append, AsOf, AskWebhook, Check, Commanded, Deletion, Error, Expected, Query, QueryItem,
    StreamName,
};
use mente_engine::{Attribute, Event};
use serde_json::{Value, json};

use super::{APPENDED, ME, STREAMS, Scene, entity, event, subscription_name, to_of};
use crate::history::{Boundary, Expect, Op, Part, Replayed, To, Told};

/// More letters than a world makes.
const LETTERS: usize = 10_000;

fn stream_name(stream: &str) -> StreamName {
    StreamName::new(stream).expect("worlds use plain names")
}

impl Scene {
    /// The ids of the events in their order, and how many there are.
    pub(super) async fn declare_folds(&self) {
        let fold = json!({APPENDED: [{"append": {"ids": "$.id"}}, {"add": {"events": 1}}]});
        for stream in STREAMS {
            let category = entity(stream_name(stream).category());
            // Whoever asks for a state without it finds no ids in it: no answer then.
            let _ = self.broker.define_fold(&ME, &category, fold.clone()).await;
            let decider = json!({"webhook": "http://decider/"});
            let _ = self.broker.define_decider(&ME, &category, decider).await;
        }
    }

    /// Appends to several streams, if nothing of the tag came behind a position.
    pub(crate) async fn append_store(
        &self,
        process: u64,
        parts: Vec<Part>,
        tag: Option<&str>,
        check: Option<Boundary>,
    ) -> bool {
        let mut events = Vec::new();
        for part in &parts {
            for id in &part.ids {
                let mut event = event(id, APPENDED);
                event
                    .extensions
                    .extend(tag.map(|tag| ("tags".to_owned(), Attribute::Text(tag.to_owned()))));
                events.push((stream_name(&part.stream), event));
            }
        }
        let query = |after| Check::Query {
            query: query_of(tag.unwrap_or_default()),
            after,
        };
        let checks = check.iter().map(|check| query(check.after));
        let append = Append::new(events, checks.collect());
        let op = Op::AppendStore {
            parts,
            tag: tag.map(str::to_owned),
            check,
            to: Vec::new(),
        };
        let work = self.broker.append_store(&ME, append);
        let done = self.call(process, op, work, |op, done| {
            if let Op::AppendStore { to, .. } = op {
                to.extend(done.streams.iter().map(|(_, to)| to_of(to)));
            }
        });
        done.await.is_some()
    }

    /// What it leads to is one append of events whose ids follow from the command's.
    pub(crate) async fn command(
        &self,
        process: u64,
        stream: &str,
        id: &str,
        events: u64,
    ) -> Option<To> {
        let ids = (0..events).map(|at| derived(&["command", stream, id, &at.to_string()]));
        let op = Op::Append {
            stream: stream.into(),
            expected: Expect::Any,
            ids: ids.collect(),
            to: None,
        };
        let told = vec![json!({ "type": APPENDED }); events as usize];
        let told = json!({ "events": told }).to_string();
        let ask: Box<AskWebhook> =
            Box::new(move |_, _| Box::pin(ready(Ok(told.clone().into_bytes()))));
        let command = Event {
            id: id.into(),
            source: "/sim".into(),
            kind: "command".into(),
            ..Event::default()
        };
        let name = stream_name(stream);
        let work = async {
            let done = self.broker.command(&ME, &name, &command, Some(&*ask));
            to_of_command(&done.await?)
        };
        let done = self.call(process, op, work, |op, done| {
            if let Op::Append { to, .. } = op {
                *to = Some(*done);
            }
        });
        done.await
    }

    /// The last position of the store, when nothing of the tag lies behind it for who looked.
    pub(crate) async fn boundary(&self, tag: &str) -> Option<Boundary> {
        let query = query_of(tag);
        let forwards = mente_broker::Direction::Forwards;
        let mut from = 0;
        loop {
            let found = self.broker.find_events(&ME, &query, from, forwards, 50);
            let found = found.await.ok()?;
            match found.next.filter(|next| *next > from && *next < found.end) {
                Some(next) => from = next,
                None => {
                    let after = found.end.checked_sub(1);
                    return Some(Boundary { after });
                }
            }
        }
    }

    /// Truncates before a revision, which none that was said before lies behind; or deletes what lies there.
    pub(crate) async fn hide(&self, process: u64, stream: &str, before: u64, is_deletion: bool) {
        let name = stream_name(stream);
        let Ok((mut metadata, said)) = self.broker.stream_metadata(&ME, &name).await else {
            return;
        };
        let Some(last) = before.checked_sub(1) else {
            return;
        };
        if metadata.truncate_before >= before {
            return;
        }
        metadata.truncate_before = before;
        let op = Op::Hide {
            stream: stream.into(),
            before,
        };
        let id = format!("hide {process} {before}");
        let said = said.map_or(Expected::NoStream, Expected::Revision);
        let work = async {
            match is_deletion {
                true => {
                    let expected = Expected::Revision(last);
                    let how = Deletion::Soft;
                    self.broker
                        .delete_stream(&ME, &name, &id, expected, how)
                        .await
                }
                false => {
                    let saying = self
                        .broker
                        .set_stream_metadata(&ME, &name, &id, said, &metadata);
                    saying.await
                }
            }
        };
        self.call(process, op, work, |_, _| {}).await;
    }

    /// What the server folds of a stream.
    pub(crate) async fn state(&self, process: u64, stream: &str, at: Option<u64>) {
        let op = Op::State {
            stream: stream.into(),
            at,
            told: None,
        };
        let name = stream_name(stream);
        let as_of = at.map_or(AsOf::Now, AsOf::Revision);
        let work = async {
            let folded = self.broker.stream_state(&ME, &name, as_of).await?;
            let ids = |ids: &Value| {
                let ids = ids.as_array()?.iter();
                ids.map(|id| id.as_str().map(str::to_owned))
                    .collect::<Option<Vec<_>>>()
            };
            let told = ids(&folded.state["ids"]).map(|ids| Told {
                revision: folded.revision,
                ids,
                events: folded.state["events"].as_u64().unwrap_or(0),
            });
            told.ok_or_else(|| Error::new(Kind::NotFound, "no fold is declared yet"))
        };
        self.call(process, op, work, |op, folded| {
            if let Op::State { told, .. } = op {
                *told = Some(folded.clone());
            }
        })
        .await;
    }

    /// Gives all dead letters back, once somebody has seen them.
    pub(crate) async fn replay(&self, process: u64, subscription: &str) {
        self.dead_letters(process, subscription).await;
        let op = Op::Replay {
            subscription: subscription.into(),
            done: None,
        };
        let name = subscription_name(subscription);
        let work = self.broker.replay(&ME, &name, LETTERS);
        self.call(process, op, work, |op, answer| {
            if let Op::Replay { done, .. } = op {
                *done = Some(Replayed {
                    replayed: answer.replayed,
                    all: answer.exact && answer.remaining == 0 && answer.passed == 0,
                });
            }
        })
        .await;
    }
}

fn to_of_command(done: &Commanded) -> Result<To, Error> {
    let (Some(first), Some(last)) = (done.events.first(), done.events.last()) else {
        return Err(Error::invalid("a command that led to nothing"));
    };
    Ok(To {
        first_revision: first.revision,
        last_revision: last.revision,
        last_position: last.position,
        repeated: done.repeated,
    })
}

fn query_of(tag: &str) -> Query {
    let item = QueryItem {
        tags: vec![tag.to_owned()],
        ..QueryItem::default()
    };
    Query { items: vec![item] }
}
