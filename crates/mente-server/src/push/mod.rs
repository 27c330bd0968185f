//! Webhooks: a built-in receiver for every subscription that has a `push` setting.
//!
//! It is an ordinary client of the queue: it receives under a lock, posts, and settles by the
//! answer. Attempts, waits, time to live and dead letters are the queue's, hence durable; what
//! is lost in a crash is at most the knowledge of a post that was under way, which is made again.

mod address;
mod asking;
mod sender;
mod signature;

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use mente_broker::queue::{Push, Settlement};
use mente_broker::{Broker, Error, Principal, Received, SubscriptionName};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::tls::Trust;
pub use address::{Reach, Target, is_public};
pub(crate) use asking::ask;
use sender::{Sender, settlement};
use signature::Signer;

/// How long one receive call waits before it asks again.
const WAIT: Duration = Duration::from_secs(60);
/// Pause after the broker refused.
const PAUSE: Duration = Duration::from_millis(500);

/// Says what is wrong with a webhook before it is kept. A name is looked up at each attempt only.
pub fn check(push: &Push) -> Result<(), Error> {
    let secrets = push.secrets.as_deref().unwrap_or_default();
    Target::parse(&push.url)
        .and_then(|_| Signer::of(secrets))
        .map(drop)
        .map_err(Error::invalid)
}

/// Where webhooks may lead, and whom they believe there.
#[derive(Clone, Debug)]
pub struct Options {
    pub reach: Reach,
    pub trust: Trust,
}

/// A webhook that is served.
struct Hook {
    /// As its workers took it; without the secrets, which change under way.
    push: Push,
    signer: watch::Sender<Signer>,
    _workers: JoinSet<()>,
}

/// Delivers to webhooks until `shutdown` resolves.
pub async fn run(broker: Broker, options: Options, shutdown: impl Future<Output = ()>) {
    // A broker that does not answer, as on a full disk, must not keep the server from stopping.
    tokio::select! {
        () = shutdown => {}
        () = serve(&broker, &options) => {}
    }
}

async fn serve(broker: &Broker, options: &Options) {
    let mut running: BTreeMap<SubscriptionName, Hook> = BTreeMap::new();
    loop {
        let seen = broker.subscription_bell().rings();
        match broker.own_subscriptions().await {
            Ok(subscriptions) => {
                let wanted = subscriptions
                    .into_iter()
                    .filter_map(|s| Some((s.name, s.settings.push?)));
                adjust(&mut running, wanted.collect(), broker, options);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot list subscriptions, webhooks stay as they are");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        broker.subscription_bell().after(seen).await;
    }
}

/// Starts and ends workers so that they are those of `wanted`. Other secrets end no post that is
/// under way.
fn adjust(
    running: &mut BTreeMap<SubscriptionName, Hook>,
    mut wanted: BTreeMap<SubscriptionName, Push>,
    broker: &Broker,
    options: &Options,
) {
    let mut secrets = BTreeMap::new();
    for (name, push) in &mut wanted {
        secrets.insert(name.clone(), push.secrets.take().unwrap_or_default());
    }
    running.retain(|name, hook| wanted.get(name) == Some(&hook.push));
    for (name, push) in wanted {
        let signer = Signer::of(&secrets[&name]);
        let (target, signer) = match Target::parse(&push.url).and_then(|t| Ok((t, signer?))) {
            Ok(parsed) => parsed,
            Err(error) => {
                tracing::error!(subscription = %name, %error, "webhook not served");
                running.remove(&name);
                continue;
            }
        };
        if let Some(hook) = running.get(&name) {
            hook.signer.send_replace(signer);
            continue;
        }
        let signer = watch::Sender::new(signer);
        let mut workers = JoinSet::new();
        for _ in 0..push.concurrency {
            let sender = Sender::new(target.clone(), options.clone(), signer.subscribe(), &push);
            workers.spawn(deliver(broker.clone(), name.clone(), push.clone(), sender));
        }
        let hook = Hook {
            push,
            signer,
            _workers: workers,
        };
        running.insert(name, hook);
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
        for (part, received) in received.into_iter().enumerate() {
            // Parts of one record share its lock, which began with the first.
            if part > 0 && !renewed(&broker, &who, &name, &received).await {
                break;
            }
            let attempt = sender.attempt(&name, &received).await;
            tracing::debug!(subscription = %name, id = received.stored.event.id, count = received.count, ?attempt, "webhook attempt");
            let how = settlement(attempt, &push, received.count, jitter());
            let is_over = how != Settlement::Complete;
            if let Err(error) = broker.settle(&who, &name, vec![received.token], how).await {
                // Its lock runs out, and it is delivered again.
                tracing::warn!(subscription = %name, %error, "webhook attempt not recorded");
            }
            // They are parts of one record, which was given back as a whole.
            if is_over {
                break;
            }
        }
    }
}

/// Whether the record is still this worker's.
async fn renewed(
    broker: &Broker,
    who: &Principal,
    name: &SubscriptionName,
    received: &Received,
) -> bool {
    let renewed = broker.settle(who, name, vec![received.token], Settlement::Renew);
    matches!(renewed.await.as_deref(), Ok([true]))
}

/// 0 to 1, at random, so that receivers that failed together do not return together.
fn jitter() -> f64 {
    let random = RandomState::new().hash_one(0u8);
    (random >> 11) as f64 / (1u64 << 53) as f64
}
