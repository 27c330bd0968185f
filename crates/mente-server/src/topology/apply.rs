//! What a plan says, done step by step.

use std::collections::BTreeSet;

use mente_broker::entity::QueueProperties;
use mente_broker::{Broker, EntityName, Error, Principal, Result};

use super::Change;
use super::plan::{Deed, Plan};

impl Plan {
    pub(super) async fn carry_out(self, broker: &Broker, who: &Principal) -> Result<Vec<Change>> {
        let changes = self.steps.iter().map(|(change, _)| change.clone());
        let changes = changes.collect();
        let deeds = self.in_order()?;
        let all = deeds.len();
        for (done, (of, deed)) in deeds.into_iter().enumerate() {
            let result = carry_out(broker, who, deed).await;
            result.map_err(|error| {
                let message = format!(
                    "{of}: {}; {done} of {all} steps are done and durable, the next apply goes on from there",
                    error.message
                );
                Error::new(error.kind, message)
            })?;
        }
        Ok(changes)
    }

    /// Topics and queues come first, since others forward to them. A queue that forwards to one that is made after it
    /// is made without, and forwards once both are there.
    fn in_order(self) -> Result<Vec<(String, Deed)>> {
        let Self { steps, mut there } = self;
        let (mut first, mut then, mut queues) = (Vec::new(), Vec::new(), Vec::new());
        for (change, deed) in steps {
            let of = format!("{} {}", change.kind, change.name);
            match deed {
                None => {}
                Some(Deed::MakeQueue(title, properties)) => queues.push((of, title, properties)),
                Some(Deed::MakeTopic(title, properties)) => {
                    there.insert(EntityName::of_path(&title)?);
                    first.push((of, Deed::MakeTopic(title, properties)));
                }
                Some(deed) => then.push((of, deed)),
            }
        }
        for (of, title, properties) in queues {
            let name = EntityName::of_path(&title)?;
            let bare = without_missing(&properties, &there);
            if bare != properties {
                then.push((of.clone(), Deed::ChangeQueue(name.clone(), properties)));
            }
            first.push((of, Deed::MakeQueue(title, bare)));
            there.insert(name);
        }
        first.append(&mut then);
        Ok(first)
    }
}

fn without_missing(properties: &QueueProperties, there: &BTreeSet<EntityName>) -> QueueProperties {
    let mut bare = properties.clone();
    let receiving = &mut bare.receiving;
    for target in [
        &mut receiving.forward_to,
        &mut receiving.forward_dead_letters_to,
    ] {
        target.take_if(|target| !there.contains(target));
    }
    bare
}

async fn carry_out(broker: &Broker, who: &Principal, deed: Deed) -> Result<()> {
    match deed {
        Deed::MakeTopic(title, properties) => {
            let made = broker.create_message_topic(who, &title, properties);
            made.await.map(drop)
        }
        Deed::ChangeTopic(name, properties) => {
            let changed = broker.update_message_topic(who, &name, properties);
            changed.await.map(drop)
        }
        Deed::MakeQueue(title, properties) => {
            let made = broker.create_queue(who, &title, properties);
            made.await.map(drop)
        }
        Deed::ChangeQueue(name, properties) => {
            let changed = broker.update_queue(who, &name, properties);
            changed.await.map(drop)
        }
        Deed::MakeSubscription(name, title, properties, first) => {
            let topic = &name.topic;
            let made = broker.create_message_subscription(who, topic, &title, properties, *first);
            made.await.map(drop)
        }
        Deed::ChangeSubscription(name, properties) => {
            let changed = broker.update_message_subscription(who, &name, properties);
            changed.await.map(drop)
        }
        Deed::AddRule(of, rule) => broker.add_rule(who, &of, rule).await,
        Deed::ChangeRule(of, rule) => broker.update_rule(who, &of, rule).await,
        Deed::RemoveRule(of, rule) => broker.remove_rule(who, &of, &rule).await,
    }
}
