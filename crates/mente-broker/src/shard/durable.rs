//! What of a shard survives a restart: as decisions, as text, as a few numbers.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::{Shard, View};
use crate::journal::{Decision, Subscription};
use crate::store::Chain;

/// What a shard holds, in a few numbers; comparable within one version of Mente.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Decisions that are in `state`.
    pub seq: u64,
    pub state: u64,
    /// Events that are in `store`.
    pub positions: u64,
    pub store: Chain,
}

impl Shard {
    /// The decisions that make this state out of an empty one; what a snapshot holds. The store
    /// is not among them: its log is its own.
    pub(crate) fn retell(&self) -> Vec<Decision> {
        let topic = |(name, topic): (&_, &_)| Decision::TopicCreated {
            name: Clone::clone(name),
            topic: Clone::clone(topic),
        };
        let mut told: Vec<_> = self.catalogue.topics.iter().map(topic).collect();
        for ((kind, name), body) in &self.catalogue.definitions {
            told.push(Decision::Defined {
                kind: *kind,
                name: name.clone(),
                body: body.clone(),
            });
        }
        told.extend(self.sealed.iter().copied().map(Decision::Sealed));
        for (id, view) in &self.views {
            told.push(view.creation(*id));
            for (partition, durable) in (0..).zip(view.queue.durable()) {
                let verdicts = durable.retell(partition).into_iter();
                told.extend(verdicts.map(|verdict| Decision::View { view: *id, verdict }));
            }
        }
        told
    }

    /// Of what would survive a restart now.
    pub fn digest(&self) -> Digest {
        Digest {
            seq: self.seq,
            state: self.state_digest(),
            positions: self.store.next_position(),
            store: self.store.chain(),
        }
    }

    pub(crate) fn state_digest(&self) -> u64 {
        let mut state = Hashed::default();
        // Writing into a hasher does not fail.
        let _ = write!(state, "{}", self.durable_state());
        state.0.finish()
    }

    /// What would survive a restart now, for comparison.
    pub fn durable_state(&self) -> String {
        let views: Vec<_> = self
            .views
            .iter()
            .map(|(id, view)| {
                let logs: Vec<_> = view.queue.durable().collect();
                let settings = view.queue.settings();
                // They do not show themselves, and must be the same all the same.
                let mut secrets = DefaultHasher::new();
                settings.secrets().hash(&mut secrets);
                let secrets = secrets.finish();
                let (name, began) = (&view.name, &view.began);
                format!("{id} {name} {began:?} {settings:?} {secrets} {logs:?}")
            })
            .collect();
        format!(
            "seq {} {:?} views {views:#?} sealed {:?}",
            self.seq, self.catalogue, self.sealed
        )
    }
}

impl View {
    /// As if it were made now: it begins where it needs to read on.
    fn creation(&self, id: u64) -> Decision {
        let starts = self.queue.durable().map(|durable| durable.floor.0);
        let subscription = Subscription {
            view: id,
            topic: self.topic.clone(),
            starts: starts.collect(),
            settings: self.queue.settings().clone(),
            began: self.began.clone(),
        };
        Decision::SubscriptionCreated {
            name: self.name.clone(),
            subscription,
        }
    }
}

/// Hashes text as it is written, without holding it.
#[derive(Default)]
struct Hashed(DefaultHasher);

impl std::fmt::Write for Hashed {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}
