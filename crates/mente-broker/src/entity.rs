//! What queues, topics and their subscriptions are made with, as Service Bus has it: each property with its
//! default, range and meaning. `None` of a duration is "never" or "without end".

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::access::Action;
use crate::error::{Error, Result};
use crate::name::EntityName;

/// What the catalogue says of a queue, or of a topic that was made as one of messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entity {
    /// As its maker spelt it: names are the same whatever their case.
    pub title: String,
    pub kind: EntityKind,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    pub updated_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntityKind {
    Queue(QueueProperties),
    Topic(TopicProperties),
}

/// Of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueProperties {
    pub receiving: Receiving,
    pub sending: Sending,
}

/// Of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopicProperties {
    pub sending: Sending,
    pub support_ordering: bool,
}

/// What a queue and a topic have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sending {
    pub status: Status,
    /// A message lives so long at most.
    pub default_time_to_live_ms: Option<u64>,
    /// Fixed at birth, with the window as it is then: messages with an id that came within it are dropped.
    pub requires_duplicate_detection: bool,
    /// 20 s to 7 days.
    pub duplicate_window_ms: u64,
    pub max_size_megabytes: u32,
    pub max_message_kilobytes: u32,
    /// Kept and told, without effect: one machine has no partitions to spread over.
    pub enable_partitioning: bool,
    pub enable_batched_operations: bool,
    pub enable_express: bool,
    /// Deleted when so long nobody used it; 5 minutes at least.
    pub auto_delete_on_idle_ms: Option<u64>,
    /// At most 1,024 characters.
    pub user_metadata: Option<String>,
    pub authorization: Vec<SasRule>,
}

/// What a queue and a subscription have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Receiving {
    /// 5 s to 5 minutes.
    pub lock_duration_ms: u64,
    /// At least 1.
    pub max_delivery_count: u32,
    /// Fixed at birth.
    pub requires_session: bool,
    pub dead_letter_on_expiry: bool,
    pub forward_to: Option<EntityName>,
    pub forward_dead_letters_to: Option<EntityName>,
}

/// Of a subscription, beside its rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SubscriptionProperties {
    pub receiving: Receiving,
    pub status: Status,
    pub default_time_to_live_ms: Option<u64>,
    pub dead_letter_on_filter_error: bool,
    pub enable_batched_operations: bool,
    pub auto_delete_on_idle_ms: Option<u64>,
    pub user_metadata: Option<String>,
}

/// A subscription of a topic of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionEntity {
    /// As its maker spelt it.
    pub title: String,
    pub properties: SubscriptionProperties,
    pub created_ms: i64,
    pub updated_ms: i64,
}

/// What an entity lets its clients do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    #[default]
    Active,
    Disabled,
    SendDisabled,
    ReceiveDisabled,
}

/// A shared access signature is made with one of the keys of such a rule.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SasRule {
    pub name: String,
    pub rights: Rights,
    pub primary_key: String,
    pub secondary_key: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rights {
    pub listen: bool,
    pub send: bool,
    /// Has the others too.
    pub manage: bool,
}

impl Rights {
    pub const ALL: Self = Self {
        listen: true,
        send: true,
        manage: true,
    };

    /// What both allow together; whoever may manage may do all.
    pub const fn and(self, other: Self) -> Self {
        let manage = self.manage || other.manage;
        Self {
            listen: manage || self.listen || other.listen,
            send: manage || self.send || other.send,
            manage,
        }
    }

    pub(crate) const fn allow(self, action: Action) -> bool {
        self.manage
            || match action {
                Action::Listen => self.listen,
                Action::Send => self.send,
                Action::Manage => false,
            }
    }
}

impl std::str::FromStr for Rights {
    type Err = Error;

    /// One of the three words, in any case.
    fn from_str(word: &str) -> Result<Self> {
        let mut rights = Self::default();
        match word.to_ascii_lowercase().as_str() {
            "listen" => rights.listen = true,
            "send" => rights.send = true,
            "manage" => rights = Self::ALL,
            _ => {
                let message = format!("the right {word:?} is none of Listen, Send and Manage");
                return Err(Error::invalid(message));
            }
        }
        Ok(rights)
    }
}

impl std::fmt::Display for Rights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match (self.manage, self.listen, self.send) {
            (true, ..) => "Manage, Listen and Send",
            (_, true, true) => "Listen and Send",
            (_, true, false) => "Listen alone",
            (_, false, true) => "Send alone",
            (_, false, false) => "none",
        })
    }
}

impl std::fmt::Debug for SasRule {
    /// Without its keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SasRule")
            .field("name", &self.name)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const DAY: u64 = 24 * 60 * MINUTE;

/// Rules of one entity.
const SAS_RULES: usize = 12;
const USER_METADATA_CHARS: usize = 1_024;

impl Default for Sending {
    fn default() -> Self {
        Self {
            status: Status::Active,
            default_time_to_live_ms: None,
            requires_duplicate_detection: false,
            duplicate_window_ms: 10 * MINUTE,
            max_size_megabytes: 1_024,
            max_message_kilobytes: 1_024,
            enable_partitioning: false,
            enable_batched_operations: true,
            enable_express: false,
            auto_delete_on_idle_ms: None,
            user_metadata: None,
            authorization: Vec::new(),
        }
    }
}

impl Default for Receiving {
    fn default() -> Self {
        Self {
            lock_duration_ms: MINUTE,
            max_delivery_count: 10,
            requires_session: false,
            dead_letter_on_expiry: false,
            forward_to: None,
            forward_dead_letters_to: None,
        }
    }
}

impl Default for SubscriptionProperties {
    fn default() -> Self {
        Self {
            receiving: Receiving::default(),
            status: Status::Active,
            default_time_to_live_ms: None,
            dead_letter_on_filter_error: true,
            enable_batched_operations: true,
            auto_delete_on_idle_ms: None,
            user_metadata: None,
        }
    }
}

impl Status {
    pub fn may_send(self) -> bool {
        matches!(self, Self::Active | Self::ReceiveDisabled)
    }

    pub fn may_receive(self) -> bool {
        matches!(self, Self::Active | Self::SendDisabled)
    }
}

impl Entity {
    pub fn sending(&self) -> &Sending {
        match &self.kind {
            EntityKind::Queue(queue) => &queue.sending,
            EntityKind::Topic(topic) => &topic.sending,
        }
    }

    /// It is deleted when nobody used it for so long.
    pub(crate) fn goes_after(&self) -> Option<Duration> {
        let forwards = self
            .queue()
            .is_some_and(|q| q.receiving.forward_to.is_some());
        let ms = self.sending().auto_delete_on_idle_ms;
        ms.filter(|_| !forwards).map(Duration::from_millis)
    }

    pub fn queue(&self) -> Option<&QueueProperties> {
        match &self.kind {
            EntityKind::Queue(queue) => Some(queue),
            EntityKind::Topic(_) => None,
        }
    }
}

impl QueueProperties {
    pub fn validate(&self) -> Result<()> {
        self.receiving.validate()?;
        self.sending.validate()
    }
}

impl SubscriptionProperties {
    pub fn validate(&self) -> Result<()> {
        self.receiving.validate()?;
        time_to_live(self.default_time_to_live_ms)?;
        idle(self.auto_delete_on_idle_ms)?;
        user_metadata(self.user_metadata.as_deref())
    }
}

impl Receiving {
    fn validate(&self) -> Result<()> {
        within(
            "LockDuration in ms",
            self.lock_duration_ms,
            5 * SECOND,
            5 * MINUTE,
        )?;
        let deliveries = u64::from(self.max_delivery_count);
        within("MaxDeliveryCount", deliveries, 1, i32::MAX as u64)
    }
}

impl Sending {
    pub fn validate(&self) -> Result<()> {
        time_to_live(self.default_time_to_live_ms)?;
        let window = self.duplicate_window_ms;
        within(
            "DuplicateDetectionHistoryTimeWindow in ms",
            window,
            20 * SECOND,
            7 * DAY,
        )?;
        let megabytes = u64::from(self.max_size_megabytes);
        within("MaxSizeInMegabytes", megabytes, 1, 80 << 10)?;
        let kilobytes = u64::from(self.max_message_kilobytes);
        within("MaxMessageSizeInKilobytes", kilobytes, 1 << 10, 100 << 10)?;
        idle(self.auto_delete_on_idle_ms)?;
        user_metadata(self.user_metadata.as_deref())?;
        within(
            "the number of AuthorizationRules",
            self.authorization.len() as u64,
            0,
            SAS_RULES as u64,
        )
    }
}

fn time_to_live(ms: Option<u64>) -> Result<()> {
    ms.map_or(Ok(()), |ms| {
        within("DefaultMessageTimeToLive in ms", ms, SECOND, u64::MAX)
    })
}

fn idle(ms: Option<u64>) -> Result<()> {
    ms.map_or(Ok(()), |ms| {
        within("AutoDeleteOnIdle in ms", ms, 5 * MINUTE, u64::MAX)
    })
}

fn user_metadata(text: Option<&str>) -> Result<()> {
    let chars = text.map_or(0, |text| text.chars().count());
    within(
        "the length of UserMetadata",
        chars as u64,
        0,
        USER_METADATA_CHARS as u64,
    )
}

fn within(name: &str, value: u64, low: u64, high: u64) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{name} is {value}, but must be from {low} to {high}"
    )))
}
