//! Publishing: straight to the logs of the topic, one batch for each.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::Ordering;

use mente_engine::{BatchBuilder, Event, LogId, Offset, limits};

use super::Broker;
use crate::access::{Action, Principal, authorize};
use crate::error::{Error, Kind, Result};
use crate::name::EntityName;
use crate::partition;
use crate::store::actor_header;
use crate::structured::forget_actor;

/// Where a published event came to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub partition: u32,
    pub offset: Offset,
}

#[derive(Debug, Default)]
struct Pending {
    batch: BatchBuilder,
    /// Which of the published events are in it, in order.
    events: Vec<usize>,
}

impl Broker {
    /// Publishes each event on its own: durable where it answers a position.
    pub async fn publish(
        &self,
        who: &Principal,
        name: &EntityName,
        events: Vec<Event>,
    ) -> Result<Vec<Result<Position>>> {
        authorize(self.options.access, who, Action::Send, name)?;
        let topic = match self.find_topic(name).await? {
            Some(topic) => topic,
            None if self.options.create_topics => self.create_topic(who, name, 1).await?.0,
            None => return Err(Error::not_found("topic", name.as_str())),
        };
        if let Some(entity) = self.catalogue.entity(name)? {
            self.check_quota(name, &entity, &topic, 0).await?;
        }
        let mut results: Vec<Result<Position>> = Vec::with_capacity(events.len());
        let mut pending: BTreeMap<u32, Pending> = BTreeMap::new();
        let mut appends = Vec::new();
        let now = self.clock.now().wall;
        let actor = who.name().map(actor_header);
        let schemas = self.admitting(&events.iter().collect::<Vec<_>>()).await?;
        for mut event in events {
            let index = results.len();
            let valid = event.validate().map_err(Error::from);
            if let Err(error) = valid.and_then(|()| schemas.admit(&event)) {
                results.push(Err(error));
                continue;
            }
            forget_actor(&mut event);
            event.place();
            let partition = match &event.key {
                Some(key) => partition::for_key(key, topic.partitions),
                None if topic.partitions == 1 => 0,
                None => self.next_partition.fetch_add(1, Ordering::Relaxed) % topic.partitions,
            };
            // Replaced by the outcome of its batch.
            results.push(Err(Error::new(Kind::Unknown, "no answer")));
            let record = event.to_record_with(now, actor.iter().cloned().collect());
            let open = pending.entry(partition).or_default();
            open.batch.push(&record);
            open.events.push(index);
            if open.batch.size() > limits::BATCH_BYTES - 2 * limits::EVENT_BYTES {
                let full = std::mem::take(open);
                appends.push(self.append(name, topic.set.log(partition), full));
            }
        }
        for (partition, open) in pending {
            if !open.batch.is_empty() {
                appends.push(self.append(name, topic.set.log(partition), open));
            }
        }
        for (partition, events, appended) in futures::future::join_all(appends).await {
            for (place, index) in events.into_iter().enumerate() {
                results[index] = match &appended {
                    Ok(base) => Ok(Position {
                        partition,
                        offset: Offset(base.0 + place as u64),
                    }),
                    Err(error) => Err(error.clone().into()),
                };
            }
        }
        Ok(results)
    }

    fn append(
        &self,
        name: &EntityName,
        log: LogId,
        full: Pending,
    ) -> impl Future<
        Output = (
            u32,
            Vec<usize>,
            std::result::Result<Offset, mente_engine::Error>,
        ),
    > + use<> {
        self.counts.sent(name, full.batch.size());
        let append = self.engine.append(&[], vec![(log, full.batch.finish())]);
        async move {
            let appended = append.await.and_then(|appended| {
                let first = appended
                    .first()
                    .ok_or(mente_engine::Error::Unknown("no answer".into()))?;
                Ok(first.base)
            });
            (log.index, full.events, appended)
        }
    }
}
