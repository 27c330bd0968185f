//! What is known of the cluster: its brokers, the topic behind each set, who leads what, and
//! the connections. Known, not believed: every answer that contradicts it has it asked again.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use mente_engine::{Error, LogId, SetId, SetName};
use uuid::Uuid;

use crate::connection::{Connection, Trouble};
use crate::limits;
use crate::name::Prefix;

/// The topic behind a set, as it was when last asked for.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) id: SetId,
    pub(crate) name: TopicName,
    pub(crate) set: SetName,
    pub(crate) owned: bool,
    /// The leading broker of each log; negative while there is none.
    pub(crate) leaders: Vec<i32>,
    /// Of the log that has the fewest.
    pub(crate) replicas: usize,
}

/// What a connection carries. Kafka works on one request of a connection at a time, so what
/// may wait long has one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Question,
    Read,
    /// A broker looks through all of its logs for that.
    Size,
    /// One of [`limits::APPEND_CONNECTIONS`].
    Append(u8),
}

/// Why one try of a question gave no result.
#[derive(Debug)]
pub(crate) enum Again {
    /// It may go better the next time.
    Later(String),
    Never(Error),
}

#[derive(Debug)]
pub(crate) struct Cluster {
    bootstrap: Vec<String>,
    pub(crate) prefix: Prefix,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    addresses: HashMap<i32, String>,
    topics: HashMap<SetId, Arc<Topic>>,
    connections: HashMap<(String, Role), Arc<Connection>>,
}

impl Cluster {
    pub(crate) fn new(bootstrap: Vec<String>, prefix: Prefix) -> Self {
        Self {
            bootstrap,
            prefix,
            known: Mutex::default(),
        }
    }

    /// A connection to any broker.
    pub(crate) async fn any(&self) -> Result<Arc<Connection>, Trouble> {
        let mut last = Trouble::NotSent("no broker is named".into());
        for address in self.addresses() {
            match self.connect(address, Role::Question).await {
                Ok(connection) => return Ok(connection),
                Err(trouble) => last = trouble,
            }
        }
        Err(last)
    }

    pub(crate) async fn broker(&self, id: i32, role: Role) -> Result<Arc<Connection>, Again> {
        let address = self.known().addresses.get(&id).cloned();
        let address = address.ok_or_else(|| Again::Later(format!("broker {id} is not known")))?;
        Ok(self.connect(address, role).await?)
    }

    /// Of all brokers that may answer, those that the cluster named first.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let mut addresses: Vec<_> = self.known().addresses.values().cloned().collect();
        addresses.sort();
        addresses.extend(self.bootstrap.iter().cloned());
        addresses
    }

    pub(crate) async fn connect(
        &self,
        address: String,
        role: Role,
    ) -> Result<Arc<Connection>, Trouble> {
        let key = (address, role);
        if let Some(connection) = self.known().connections.get(&key)
            && connection.is_open()
        {
            return Ok(Arc::clone(connection));
        }
        let connection = Connection::open(&key.0).await?;
        self.known()
            .connections
            .insert(key, Arc::clone(&connection));
        Ok(connection)
    }

    /// The topic of a set, asked for if it is not known.
    pub(crate) async fn topic(&self, set: SetId) -> Result<Arc<Topic>, Again> {
        let known = self.known().topics.get(&set).cloned();
        match known {
            Some(topic) => Ok(topic),
            None => self.refresh(set).await,
        }
    }

    /// Asks anew. `Gone` if the cluster has no topic of that id.
    pub(crate) async fn refresh(&self, set: SetId) -> Result<Arc<Topic>, Again> {
        let wanted = MetadataRequestTopic::default()
            .with_name(None)
            .with_topic_id(Uuid::from_u128(set.0));
        let found = self.metadata(Some(vec![wanted])).await?.into_iter().next();
        if let Some(topic) = &found
            && let Err(Again::Later(reason)) = check(topic.error_code)
            && !is_unknown(topic.error_code)
        {
            return Err(Again::Later(reason));
        }
        let found = found
            .and_then(|topic| self.known_topic(topic))
            .filter(|topic| topic.id == set);
        let Some(topic) = found else {
            self.forget(set);
            return Err(Again::Never(Error::Gone));
        };
        Ok(self.learn(topic))
    }

    pub(crate) fn learn(&self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        self.known().topics.insert(topic.id, Arc::clone(&topic));
        topic
    }

    pub(crate) fn forget(&self, set: SetId) {
        self.known().topics.remove(&set);
    }

    /// The topic of a log and a connection to its leader.
    pub(crate) async fn leader(
        &self,
        log: LogId,
        role: Role,
    ) -> Result<(Arc<Topic>, Arc<Connection>), Again> {
        let index = log.index as usize;
        let mut topic = self.topic(log.set).await?;
        if topic.leaders.get(index).is_none_or(|leader| *leader < 0) {
            topic = self.refresh(log.set).await?;
        }
        match topic.leaders.get(index) {
            None => Err(Again::Never(Error::Gone)),
            Some(leader) if *leader < 0 => Err(Again::Later(format!("{log} has no leader"))),
            Some(leader) => {
                let connection = self.broker(*leader, role).await;
                if connection.is_err() {
                    self.forget(log.set);
                }
                Ok((topic.clone(), connection?))
            }
        }
    }

    /// Topics by name; those that do not exist are left out.
    pub(crate) async fn topics_named(&self, names: &[&str]) -> Result<Vec<Topic>, Again> {
        let wanted = names.iter().map(|name| {
            let name = TopicName(StrBytes::from_string((*name).to_owned()));
            MetadataRequestTopic::default().with_name(Some(name))
        });
        let found = self.metadata(Some(wanted.collect())).await?;
        Ok(found
            .into_iter()
            .filter_map(|topic| self.known_topic(topic))
            .collect())
    }

    /// The brokers that are there, as the cluster last said.
    pub(crate) fn broker_ids(&self) -> Vec<i32> {
        self.known().addresses.keys().copied().collect()
    }

    /// Every topic that is a set.
    pub(crate) async fn all_topics(&self) -> Result<Vec<Topic>, Again> {
        let found = self.metadata(None).await?;
        let visible = found.into_iter().filter(|topic| !topic.is_internal);
        Ok(visible
            .filter_map(|topic| self.known_topic(topic))
            .collect())
    }

    async fn metadata(
        &self,
        topics: Option<Vec<MetadataRequestTopic>>,
    ) -> Result<Vec<MetadataResponseTopic>, Again> {
        let request = MetadataRequest::default()
            .with_topics(topics)
            .with_allow_auto_topic_creation(false);
        // 12: topics can be asked for by id.
        let answer = self.any().await?.ask(12..=13, &request).await?;
        let addresses = answer.brokers.iter();
        self.known().addresses = addresses
            .map(|broker| (broker.node_id.0, address(&broker.host, broker.port)))
            .collect();
        Ok(answer.topics)
    }

    /// Of a topic that is a set.
    fn known_topic(&self, found: MetadataResponseTopic) -> Option<Topic> {
        if found.error_code != 0 {
            return None;
        }
        let name = found.name?;
        let (set, owned) = self.prefix.set(&name)?;
        let mut leaders = vec![-1; found.partitions.len()];
        for partition in &found.partitions {
            let index = usize::try_from(partition.partition_index).ok()?;
            *leaders.get_mut(index)? = partition.leader_id.0;
        }
        let id = SetId(found.topic_id.as_u128());
        let replicas = found
            .partitions
            .iter()
            .map(|partition| partition.replica_nodes.len());
        Some(Topic {
            id,
            name,
            set,
            owned,
            leaders,
            replicas: replicas.min().unwrap_or(0),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no panic while this is held")
    }
}

/// What a coordinator looks after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Group = 0,
    TransactionalId = 1,
}

/// The address of the coordinator of `key`, as the broker at the other end knows it.
pub(crate) async fn coordinator(
    broker: &Arc<Connection>,
    kept: Kept,
    key: &StrBytes,
) -> Result<String, Again> {
    let request = FindCoordinatorRequest::default()
        .with_key_type(kept as i8)
        .with_coordinator_keys(vec![key.clone()]);
    let answer = broker.ask(4..=6, &request).await?;
    check(answer.error_code)?;
    let found = answer.coordinators.into_iter().next();
    let found = found.ok_or_else(|| Again::Later("no coordinator is named".into()))?;
    check(found.error_code)?;
    Ok(address(&found.host, found.port))
}

fn address(host: &str, port: i32) -> String {
    // An IPv6 address would run into its port.
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn is_unknown(code: i16) -> bool {
    use ResponseError::{UnknownTopicId, UnknownTopicOrPartition};
    let error = ResponseError::try_from_code(code);
    matches!(error, Some(UnknownTopicId | UnknownTopicOrPartition))
}

/// Asks until there is a result, with rising pauses. For what has no effect, or the same
/// effect when done twice.
pub(crate) async fn ask_again<T, Try: Future<Output = Result<T, Again>>>(
    mut ask: impl FnMut() -> Try,
) -> Result<T, Error> {
    let (since, mut pause) = (Instant::now(), limits::PAUSE_MIN);
    loop {
        match ask().await {
            Ok(found) => return Ok(found),
            Err(Again::Never(error)) => return Err(error),
            Err(Again::Later(reason)) if since.elapsed() > limits::ASK => {
                return Err(Error::Busy(format!(
                    "the cluster does not answer: {reason}"
                )));
            }
            Err(Again::Later(_)) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(limits::PAUSE_MAX);
    }
}

impl From<Trouble> for Again {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::NoVersion(_) => Self::Never(Error::Unsupported(
                "Mente speaks to Apache Kafka 4.1 and newer",
            )),
            trouble => Self::Later(trouble.to_string()),
        }
    }
}

/// Reads the error code of an answer to a question.
pub(crate) fn check(code: i16) -> Result<(), Again> {
    match ResponseError::try_from_code(code) {
        None => Ok(()),
        Some(error) if error.is_retriable() => Err(Again::Later(error.to_string())),
        Some(error) => Err(Again::Never(Error::NotDone(error.to_string()))),
    }
}
