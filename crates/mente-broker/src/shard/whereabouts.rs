//! What became of records of one topic, or of the store, in each of its subscriptions.

use mente_engine::Offset;
use serde::{Deserialize, Serialize};

use super::{Reply, Shard, View};
use crate::filter::Filter;
use crate::name::{EntityName, SubscriptionName};
use crate::queue::Whereabouts;

/// Of one subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    pub name: SubscriptionName,
    pub filter: Option<Filter>,
    /// Where its webhook is, if it has one.
    pub url: Option<String>,
    /// In the order of the places that were asked for; `None` of what lies before it began, as far as that
    /// is known.
    pub whereabouts: Vec<Option<Whereabouts>>,
}

impl Shard {
    pub(super) fn whereabouts(&self, topic: &EntityName, places: &[(u32, Offset)]) -> Reply {
        let of_topic = self.views.values();
        let of_topic = of_topic.filter(|view| view.name.topic == *topic && !view.name.is_letters());
        let heard = of_topic.map(|view| Heard {
            name: view.name.clone(),
            filter: view.queue.settings().filter.clone(),
            url: view
                .queue
                .settings()
                .push
                .as_ref()
                .map(|push| push.url.clone()),
            whereabouts: places
                .iter()
                .map(|(partition, offset)| view.whereabouts(*partition, *offset))
                .collect(),
        });
        Reply::Whereabouts(heard.collect())
    }
}

impl View {
    fn whereabouts(&self, partition: u32, offset: Offset) -> Option<Whereabouts> {
        let began = self.began.get(partition as usize)?;
        (offset.0 >= *began).then(|| self.queue.whereabouts(partition, offset))?
    }
}
