//! Webhooks: a built-in receiver for every subscription that has a `push` setting.
//!
//! It is an ordinary client of the queue: it receives under a lock, posts, and settles by the
//! answer. Attempts, waits, time to live and dead letters are the queue's, hence durable; what
//! is lost in a crash is at most the knowledge of a post that was under way, which is made again.

mod address;
mod sender;

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use mente_broker::queue::Push;
use mente_broker::{Broker, Error, Principal, SubscriptionName};
use tokio::task::JoinSet;

use crate::tls::Trust;
pub use address::{Reach, Target, is_public};
use sender::{Sender, settlement};

/// How long one receive call waits before it asks again.
const WAIT: Duration = Duration::from_secs(60);
/// Pause after the broker refused.
const PAUSE: Duration = Duration::from_millis(500);

/// Says what is wrong with a webhook before it is kept. A name is looked up at each attempt only.
pub fn check(push: &Push) -> Result<(), Error> {
    let parsed = Target::parse(&push.url).map(drop);
    parsed.map_err(Error::invalid)
}

/// Where webhooks may lead, and whom they believe there.
#[derive(Clone, Debug)]
pub struct Options {
    pub reach: Reach,
    pub trust: Trust,
}

/// Delivers to webhooks until `shutdown` resolves.
pub async fn run(broker: Broker, options: Options, shutdown: impl Future<Output = ()>) {
    let mut running: BTreeMap<SubscriptionName, (Push, JoinSet<()>)> = BTreeMap::new();
    tokio::pin!(shutdown);
    loop {
        let seen = broker.subscription_bell().rings();
        match broker.all_subscriptions().await {
            Ok(subscriptions) => {
                let wanted = subscriptions
                    .into_iter()
                    .filter_map(|s| Some((s.name, s.settings.push?)));
                adjust(&mut running, wanted.collect(), &broker, &options);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot list subscriptions, webhooks stay as they are");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        tokio::select! {
            () = &mut shutdown => return,
            () = broker.subscription_bell().after(seen) => {}
        }
    }
}

/// Starts and ends workers so that they are those of `wanted`.
fn adjust(
    running: &mut BTreeMap<SubscriptionName, (Push, JoinSet<()>)>,
    wanted: BTreeMap<SubscriptionName, Push>,
    broker: &Broker,
    options: &Options,
) {
    running.retain(|name, (push, _)| wanted.get(name) == Some(push));
    for (name, push) in wanted {
        if running.contains_key(&name) {
            continue;
        }
        let target = match Target::parse(&push.url) {
            Ok(target) => target,
            Err(error) => {
                tracing::error!(subscription = %name, %error, "webhook not served");
                continue;
            }
        };
        let mut workers = JoinSet::new();
        for _ in 0..push.concurrency {
            let sender = Sender::new(target.clone(), options.clone(), &push);
            workers.spawn(deliver(broker.clone(), name.clone(), push.clone(), sender));
        }
        running.insert(name, (push, workers));
    }
}

/// One of a webhook's workers: receive, post, settle, for ever.
async fn deliver(broker: Broker, name: SubscriptionName, push: Push, mut sender: Sender) {
    let who = Principal::Key("webhooks".into());
    loop {
        let received = match broker.receive(&who, &name, 1, WAIT).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(subscription = %name, %error, "webhook cannot receive");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        for received in received {
            let attempt = sender.attempt(&name, &received).await;
            tracing::debug!(subscription = %name, id = received.stored.event.id, count = received.count, ?attempt, "webhook attempt");
            let how = settlement(attempt, &push, received.count, jitter());
            if let Err(error) = broker.settle(&who, &name, vec![received.token], how).await {
                // Its lock runs out, and it is delivered again.
                tracing::warn!(subscription = %name, %error, "webhook attempt not recorded");
            }
        }
    }
}

/// 0 to 1, at random, so that receivers that failed together do not return together.
fn jitter() -> f64 {
    let random = RandomState::new().hash_one(0u8);
    (random >> 11) as f64 / (1u64 << 53) as f64
}
