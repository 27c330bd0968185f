//! Whether the cluster keeps what it acknowledges. A batch is acknowledged by every replica in sync; how many
//! those are, and who may lead after a failure, are settings of the cluster and of each topic.

use std::collections::BTreeMap;

use kafka_protocol::messages::DescribeConfigsRequest;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::protocol::StrBytes;
use mente_engine::Error;

use crate::cluster::{Again, Cluster, ask_again};
use crate::sets::{OF_BROKER, OF_TOPIC};

const REPLICAS: &str = "default.replication.factor";
const IN_SYNC: &str = "min.insync.replicas";
const UNCLEAN: &str = "unclean.leader.election.enable";

/// Topics that one message names.
const NAMED: usize = 5;

type Settings = BTreeMap<String, String>;

/// What of the cluster's settings, and of those of this Mente's topics, may lose acknowledged records, in
/// words for whoever runs it; nothing if all is well.
pub(crate) async fn faults(cluster: &Cluster) -> Result<Vec<String>, Error> {
    ask_again(|| look(cluster)).await
}

async fn look(cluster: &Cluster) -> Result<Vec<String>, Again> {
    let topics = cluster.all_topics().await?;
    let Some(broker) = cluster.some_broker() else {
        return Err(Again::Later("no broker is known".into()));
    };
    let keys = [REPLICAS, IN_SYNC, UNCLEAN];
    let defaults = settings(cluster, OF_BROKER, &[broker.to_string()], &keys).await?;
    let mut faults = of_new_topics(defaults.values().next().unwrap_or(&Settings::new()));
    let names: Vec<String> = topics.iter().map(|topic| topic.name.to_string()).collect();
    let set = settings(cluster, OF_TOPIC, &names, &keys[1..]).await?;
    let named = |is_bad: &dyn Fn(&str) -> bool| {
        let bad: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|name| is_bad(name))
            .collect();
        let some = bad[..bad.len().min(NAMED)].join(", ");
        (bad.len(), some)
    };
    let few = named(&|name| {
        topics
            .iter()
            .any(|topic| topic.name.as_str() == name && topic.replicas < 2)
    });
    let number = |name: &str, key: &str| set.get(name)?.get(key)?.parse::<u32>().ok();
    let quick = named(&|name| number(name, IN_SYNC).is_some_and(|least| least < 2));
    let unclean = named(&|name| {
        set.get(name)
            .and_then(|set| set.get(UNCLEAN))
            .is_some_and(|value| value == "true")
    });
    for ((count, some), what) in [
        (few, "have one replica"),
        (
            quick,
            "acknowledge by one replica alone (min.insync.replicas is 1)",
        ),
        (
            unclean,
            "may be led by a replica that lacks records (unclean.leader.election.enable)",
        ),
    ] {
        if count > 0 {
            faults.push(format!("{count} topics that are there {what}: {some}"));
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

async fn settings(
    cluster: &Cluster,
    kind: i8,
    names: &[String],
    keys: &[&'static str],
) -> Result<BTreeMap<String, Settings>, Again> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let keys: Vec<_> = keys
        .iter()
        .copied()
        .map(StrBytes::from_static_str)
        .collect();
    let resources = names.iter().map(|name| {
        DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(StrBytes::from_string(name.clone()))
            .with_configuration_keys(Some(keys.clone()))
    });
    let request = DescribeConfigsRequest::default().with_resources(resources.collect());
    let answer = cluster.any().await?.ask(1..=4, &request).await?;
    // One that went in between, or that may not be looked at, has an error, and is left out.
    let found = answer
        .results
        .into_iter()
        .filter(|result| result.error_code == 0);
    Ok(found
        .map(|result| {
            let settings = result.configs.into_iter();
            let settings = settings
                .filter_map(|setting| Some((setting.name.to_string(), setting.value?.to_string())));
            (result.resource_name.to_string(), settings.collect())
        })
        .collect())
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
        // A cluster that does not tell is taken at its word.
        assert_eq!(of_new_topics(&Settings::new()).len(), 0);
    }
}
