//! Sets are topics: made, changed, deleted and listed.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    IncrementalAlterConfigsRequest, ListOffsetsRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use mente_engine::engine::{self, Retention};
use mente_engine::{Change, Error, LogConfig, SetId, SetInfo, SetName};
use tokio::time::timeout;
use uuid::Uuid;

use crate::cluster::{Again, Cluster, Role, Topic, ask_again, check};
use crate::limits;
use crate::settings::{OF_TOPIC, Settings, settings};

const SET_VALUE: i8 = 0;

pub(crate) async fn create(
    cluster: &Cluster,
    set: &SetName,
    logs: u32,
    config: LogConfig,
) -> Result<SetId, Error> {
    check_logs(logs)?;
    let names = (
        cluster.prefix.topic(set, config.owned),
        cluster.prefix.topic(set, !config.owned),
    );
    let (Some(wanted), Some(other)) = names else {
        return Err(Error::NotDone(format!(
            "{set} is too long for the name of a Kafka topic"
        )));
    };
    let topic = ask_again(|| async {
        let found = cluster.topics_named(&[&wanted, &other]).await?;
        let Some(topic) = found.into_iter().next() else {
            make(cluster, &wanted, logs, config).await?;
            return Err(Again::Later(format!("{set} does not show yet")));
        };
        let there = (topic.leaders.len(), topic.owned);
        engine::same_set(set, there, (logs, config.owned)).map_err(Again::Never)?;
        Ok(cluster.learn(topic))
    });
    let id = topic.await.map_err(unknown_if_busy)?.id;
    usable(cluster, id, logs).await?;
    Ok(id)
}

async fn make(cluster: &Cluster, topic: &str, logs: u32, config: LogConfig) -> Result<(), Again> {
    let mut settings = settings_of(config.retention);
    // Whatever the brokers default to: batches stay as they were sent, and as large.
    settings.push(("compression.type", "producer".into()));
    settings.push(("cleanup.policy", "delete".into()));
    // A replica that lacks acknowledged records never leads.
    settings.push(("unclean.leader.election.enable", "false".into()));
    settings.push((
        "max.message.bytes",
        mente_engine::limits::BATCH_BYTES.to_string(),
    ));
    // An owned log carries the time of its append. Kafka also forgets a producer by the time
    // of its last batch: with a record's own time, one of long ago would undo the fence.
    let time = if config.owned {
        "LogAppendTime"
    } else {
        "CreateTime"
    };
    settings.push(("message.timestamp.type", time.into()));
    let settings = settings.into_iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_string(value)))
    });
    let topic = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(logs.cast_signed())
        // As many replicas as the cluster gives by default.
        .with_replication_factor(-1)
        .with_configs(settings.collect());
    let request = CreateTopicsRequest::default()
        .with_timeout_ms(limits::BROKER_MS)
        .with_topics(vec![topic]);
    let answer = cluster.any().await?.ask(5..=7, &request).await?;
    let made = answer.topics.first();
    let (code, message) = made.map_or((0, None), |t| (t.error_code, t.error_message.clone()));
    match ResponseError::try_from_code(code) {
        Some(ResponseError::TopicAlreadyExists) => Ok(()),
        _ => explained(code, message),
    }
}

/// Waits until every log of the set has a leader that answers for it.
async fn usable(cluster: &Cluster, set: SetId, logs: u32) -> Result<(), Error> {
    ask_again(|| async move {
        let topic = cluster.topic(set).await?;
        let ready = leaders_answer(cluster, &topic, logs).await;
        if ready.is_err() {
            cluster.forget(set);
        }
        ready
    })
    .await
    .map_err(unknown_if_busy)
}

async fn leaders_answer(cluster: &Cluster, topic: &Topic, logs: u32) -> Result<(), Again> {
    if topic.leaders.len() < logs as usize || topic.leaders.iter().any(|leader| *leader < 0) {
        return Err(Again::Later(format!(
            "{} has logs without a leader",
            topic.set
        )));
    }
    let mut by_leader = BTreeMap::<i32, Vec<ListOffsetsPartition>>::new();
    for (index, leader) in (0..).zip(&topic.leaders) {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(index)
            .with_current_leader_epoch(-1)
            .with_timestamp(-1);
        by_leader.entry(*leader).or_default().push(partition);
    }
    for (leader, partitions) in by_leader {
        let wanted = ListOffsetsTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_timeout_ms(limits::BROKER_MS)
            .with_topics(vec![wanted]);
        let leader = cluster.broker(leader, Role::Question).await?;
        let answer = leader.ask(6..=10, &request).await?;
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            check(partition.error_code)?;
        }
    }
    Ok(())
}

pub(crate) async fn alter(cluster: &Cluster, set: SetId, change: Change) -> Result<(), Error> {
    match change {
        Change::Logs(logs) => {
            check_logs(logs)?;
            ask_again(|| grow(cluster, set, logs))
                .await
                .map_err(unknown_if_busy)?;
            usable(cluster, set, logs).await
        }
        Change::Retention(retention) => {
            let settings = settings_of(retention);
            ask_again(|| configure(cluster, set, &settings))
                .await
                .map_err(unknown_if_busy)?;
            // It is made whether or not it shows in time: one that another call changed meanwhile never does.
            let shown = ask_again(|| shows(cluster, set, &settings));
            let _ = timeout(limits::SHOWN, shown).await;
            Ok(())
        }
    }
}

async fn grow(cluster: &Cluster, set: SetId, logs: u32) -> Result<(), Again> {
    let topic = cluster.refresh(set).await?;
    if topic.leaders.len() > logs as usize {
        let text = "the number of logs only grows".into();
        return Err(Again::Never(Error::NotDone(text)));
    }
    if topic.leaders.len() == logs as usize {
        return Ok(());
    }
    let wanted = CreatePartitionsTopic::default()
        .with_name(topic.name.clone())
        .with_count(logs.cast_signed())
        .with_assignments(None);
    let request = CreatePartitionsRequest::default()
        .with_timeout_ms(limits::BROKER_MS)
        .with_topics(vec![wanted]);
    let answer = cluster.any().await?.ask(2..=3, &request).await?;
    for result in answer.results {
        explained(result.error_code, result.error_message)?;
    }
    Err(Again::Later("the new logs do not show yet".into()))
}

/// Has the set's files be small from now on: what is trimmed goes with whole files.
pub(crate) async fn make_small(cluster: &Cluster, set: SetId) -> Result<(), Error> {
    let bytes = limits::TRIMMED_FILE_BYTES.to_string();
    let settings = [("segment.bytes", bytes)];
    ask_again(|| configure(cluster, set, &settings)).await
}

/// A broker tells of a change once the controller's log brought it there, a moment after the controller answered. Who
/// changes one setting and keeps the others, as they are told, would undo what was changed a moment before.
async fn shows(
    cluster: &Cluster,
    set: SetId,
    wanted: &[(&'static str, String)],
) -> Result<(), Again> {
    let topic = cluster.refresh(set).await?;
    let names = [topic.name.to_string()];
    let keys: Vec<_> = wanted.iter().map(|(key, _)| *key).collect();
    for broker in cluster.broker_ids() {
        // One that is away catches up before it answers again.
        let Ok(connection) = cluster.broker(broker, Role::Question).await else {
            continue;
        };
        let told = settings(&connection, OF_TOPIC, &names, &keys).await?;
        let told = told.get(topic.name.as_str());
        let is_told =
            |(key, value): &(&str, String)| told.and_then(|of| of.get(*key)) == Some(value);
        if !wanted.iter().all(is_told) {
            return Err(Again::Later(format!(
                "broker {broker} does not show the change yet"
            )));
        }
    }
    Ok(())
}

async fn configure(
    cluster: &Cluster,
    set: SetId,
    settings: &[(&'static str, String)],
) -> Result<(), Again> {
    let topic = cluster.refresh(set).await?;
    let settings = settings.iter().map(|(name, value)| {
        AlterableConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_config_operation(SET_VALUE)
            .with_value(Some(StrBytes::from_string(value.clone())))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(OF_TOPIC)
        .with_resource_name(topic.name.0.clone())
        .with_configs(settings.collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = cluster.any().await?.ask(1..=1, &request).await?;
    for result in answer.responses {
        explained(result.error_code, result.error_message)?;
    }
    Ok(())
}

pub(crate) async fn delete(cluster: &Cluster, set: SetId) -> Result<(), Error> {
    // Gone before we came is an error, gone after the first try is success.
    ask_again(|| cluster.refresh(set)).await?;
    cluster.forget(set);
    ask_again(|| async move {
        let doomed = DeleteTopicState::default()
            .with_name(None)
            .with_topic_id(Uuid::from_u128(set.0));
        let request = DeleteTopicsRequest::default()
            .with_timeout_ms(limits::BROKER_MS)
            .with_topics(vec![doomed]);
        let answer = cluster.any().await?.ask(6..=6, &request).await?;
        for result in answer.responses {
            match ResponseError::try_from_code(result.error_code) {
                Some(ResponseError::UnknownTopicId) => {}
                _ => explained(result.error_code, result.error_message)?,
            }
        }
        match cluster.refresh(set).await {
            Err(Again::Never(Error::Gone)) => Ok(()),
            Err(other) => Err(other),
            Ok(_) => Err(Again::Later("the topic still shows".into())),
        }
    })
    .await
    .map_err(unknown_if_busy)
}

pub(crate) async fn list(cluster: &Cluster, prefix: &str) -> Result<Vec<SetInfo>, Error> {
    ask_again(|| async move {
        let mut topics = cluster.all_topics().await?;
        topics.retain(|topic| topic.set.as_str().starts_with(prefix));
        let names: Vec<_> = topics.iter().map(|topic| topic.name.to_string()).collect();
        let keys = ["retention.ms", "retention.bytes", "max.message.bytes"];
        let settings = settings(&cluster.any().await?, OF_TOPIC, &names, &keys).await?;
        let mut sets: Vec<_> = topics
            .into_iter()
            .filter_map(|topic| info(&topic, settings.get(topic.name.as_str())?))
            .collect();
        sets.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(sets)
    })
    .await
}

fn info(topic: &Topic, settings: &Settings) -> Option<SetInfo> {
    let number = |name: &str| {
        settings
            .get(name)
            .and_then(|value| value.parse::<i64>().ok())
    };
    let retention = Retention {
        age: number("retention.ms")
            .and_then(|ms| u64::try_from(ms).ok())
            .map(Duration::from_millis),
        bytes: number("retention.bytes").and_then(|bytes| u64::try_from(bytes).ok()),
    };
    let batch_bytes_max = usize::try_from(number("max.message.bytes")?).ok()?;
    let batch_bytes_max = batch_bytes_max.min(mente_engine::limits::BATCH_BYTES);
    Some(SetInfo {
        name: topic.set.clone(),
        id: topic.id,
        logs: u32::try_from(topic.leaders.len()).ok()?,
        config: LogConfig {
            owned: topic.owned,
            retention,
        },
        batch_bytes_max,
        // Each batch is a request of its own.
        batch_bytes_good: batch_bytes_max,
    })
}

fn settings_of(retention: Retention) -> Vec<(&'static str, String)> {
    let age = retention
        .age
        .and_then(|age| i64::try_from(age.as_millis()).ok());
    let bytes = retention.bytes.and_then(|bytes| i64::try_from(bytes).ok());
    vec![
        ("retention.ms", age.unwrap_or(-1).to_string()),
        ("retention.bytes", bytes.unwrap_or(-1).to_string()),
    ]
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn explained(code: i16, message: Option<StrBytes>) -> Result<(), Again> {
    let Err(again) = check(code) else {
        return Ok(());
    };
    Err(match (again, message) {
        (Again::Never(_), Some(message)) => Again::Never(Error::NotDone(message.to_string())),
        (again, _) => again,
    })
}

/// A change that may have been made before the answers stopped.
fn unknown_if_busy(error: Error) -> Error {
    match error {
        Error::Busy(reason) => Error::Unknown(reason),
        other => other,
    }
}

fn check_logs(logs: u32) -> Result<(), Error> {
    let most = mente_engine::limits::LOGS_PER_SET;
    if (1..=most).contains(&logs) {
        return Ok(());
    }
    Err(Error::NotDone(format!(
        "a set has 1 to {most} logs, not {logs}"
    )))
}
