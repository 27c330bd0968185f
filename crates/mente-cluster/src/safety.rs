//! Whether the cluster keeps what it acknowledges. A batch is acknowledged by every replica in sync; how many
//! those are, and who may lead after a failure, are settings of the cluster and of each topic.

use mente_engine::Error;

use crate::cluster::{Again, Cluster, Role, Topic, ask_again};
use crate::settings::{OF_BROKER, OF_TOPIC, Settings, settings};

const REPLICAS: &str = "default.replication.factor";
const IN_SYNC: &str = "min.insync.replicas";
const UNCLEAN: &str = "unclean.leader.election.enable";

/// Topics that one message names.
const NAMED: usize = 5;

/// What may lose acknowledged records, in words for whoever runs the cluster.
#[derive(Debug, Default)]
pub struct Faults {
    /// Of the brokers and of Mente's own logs; nothing if all is well.
    pub own: Vec<String>,
    /// Of other topics that this Mente sees; they may be nobody's business here.
    pub others: Vec<String>,
}

pub(crate) async fn faults(cluster: &Cluster) -> Result<Faults, Error> {
    ask_again(|| look(cluster)).await
}

async fn look(cluster: &Cluster) -> Result<Faults, Again> {
    let topics = cluster.all_topics().await?;
    let mut found = Faults::default();
    // Each tells of itself only, and any of them may be the one that makes a topic.
    for broker in cluster.broker_ids() {
        let connection = cluster.broker(broker, Role::Question).await?;
        let name = [broker.to_string()];
        let told = settings(&connection, OF_BROKER, &name, &[REPLICAS, IN_SYNC, UNCLEAN]).await?;
        let defaults = told.into_values().next();
        let defaults = defaults
            .filter(|settings| settings.contains_key(REPLICAS))
            .ok_or_else(|| Again::Later(format!("broker {broker} does not tell its settings")))?;
        for fault in of_new_topics(&defaults) {
            if !found.own.contains(&fault) {
                found.own.push(fault);
            }
        }
    }
    let (own, others): (Vec<_>, Vec<_>) = topics.iter().partition(|topic| topic.owned);
    found.own.extend(of_topics(cluster, &own).await?);
    found.others = of_topics(cluster, &others).await?;
    Ok(found)
}

async fn of_topics(cluster: &Cluster, topics: &[&Topic]) -> Result<Vec<String>, Again> {
    let names: Vec<String> = topics.iter().map(|topic| topic.name.to_string()).collect();
    let connection = cluster.any().await?;
    let set = settings(&connection, OF_TOPIC, &names, &[IN_SYNC, UNCLEAN]).await?;
    let setting = |topic: &Topic, key: &str| set.get(topic.name.as_str())?.get(key).cloned();
    let few = |topic: &Topic| topic.replicas < 2;
    let quick = |topic: &Topic| {
        let least = setting(topic, IN_SYNC).and_then(|value| value.parse::<u32>().ok());
        least.is_some_and(|least| least < 2)
    };
    let unclean = |topic: &Topic| setting(topic, UNCLEAN).is_some_and(|value| value == "true");
    type IsBad<'a> = &'a dyn Fn(&Topic) -> bool;
    let kinds: [(IsBad<'_>, &str); 3] = [
        (&few, "have one replica"),
        (
            &quick,
            "acknowledge by one replica alone (min.insync.replicas is 1)",
        ),
        (
            &unclean,
            "may be led by a replica that lacks records (unclean.leader.election.enable)",
        ),
    ];
    let mut faults = Vec::new();
    for (is_bad, what) in kinds {
        let bad: Vec<&str> = topics
            .iter()
            .filter(|topic| is_bad(topic))
            .map(|topic| topic.name.as_str())
            .collect();
        if !bad.is_empty() {
            let some = bad[..bad.len().min(NAMED)].join(", ");
            faults.push(format!("{} topics {what}: {some}", bad.len()));
        }
    }
    Ok(faults)
}

/// Topics are made with the brokers' defaults.
fn of_new_topics(defaults: &Settings) -> Vec<String> {
    let number = |key: &str| {
        defaults
            .get(key)
            .and_then(|value| value.parse::<u32>().ok())
    };
    let mut faults = Vec::new();
    if let Some(replicas @ ..2) = number(REPLICAS) {
        faults.push(format!(
            "{REPLICAS} is {replicas}: what one broker loses is lost; 3 is usual"
        ));
    }
    if let Some(least @ ..2) = number(IN_SYNC) {
        faults.push(format!(
            "{IN_SYNC} is {least}: a record is acknowledged while one broker alone has it; set 2"
        ));
    }
    if defaults.get(UNCLEAN).is_some_and(|value| value == "true") {
        faults.push(format!(
            "{UNCLEAN} is true: a broker that lacks acknowledged records may lead"
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_that_lose_records_are_named() {
        let faults = |replicas: &str, least: &str, unclean: &str| {
            let pairs = [(REPLICAS, replicas), (IN_SYNC, least), (UNCLEAN, unclean)];
            let settings = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
            of_new_topics(&settings.into()).len()
        };
        assert_eq!(faults("3", "2", "false"), 0);
        assert_eq!(faults("1", "1", "false"), 2);
        assert_eq!(faults("3", "1", "true"), 2);
    }
}
