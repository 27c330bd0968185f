//! The properties of the system that the language names: how they are spelt, and what an action makes of them.

/// What an action may do with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changes {
    /// Sets it to a text of so many characters at most.
    Text(usize),
    Duration,
    /// Sets it without effect: what it says was looked at when the message came.
    Ignored,
    /// The broker says it.
    Never,
}

/// Of ids by which messages are grouped.
const ID_CHARS: usize = 128;
const TEXT_CHARS: usize = 1_024;

/// After the public properties of a message in Microsoft.ServiceBus, `BrokeredMessage`.
const PROPERTIES: &[(&str, Changes)] = &[
    ("ContentType", Changes::Text(TEXT_CHARS)),
    ("CorrelationId", Changes::Text(TEXT_CHARS)),
    ("DeadLetterSource", Changes::Never),
    ("DeliveryCount", Changes::Never),
    ("EnqueuedSequenceNumber", Changes::Never),
    ("EnqueuedTimeUtc", Changes::Never),
    ("ExpiresAtUtc", Changes::Never),
    ("Label", Changes::Text(TEXT_CHARS)),
    ("LockedUntilUtc", Changes::Never),
    ("LockToken", Changes::Never),
    ("MessageId", Changes::Text(ID_CHARS)),
    ("PartitionKey", Changes::Text(ID_CHARS)),
    ("ReplyTo", Changes::Text(TEXT_CHARS)),
    ("ReplyToSessionId", Changes::Text(ID_CHARS)),
    ("ScheduledEnqueueTimeUtc", Changes::Ignored),
    ("SequenceNumber", Changes::Never),
    ("SessionId", Changes::Text(ID_CHARS)),
    ("Size", Changes::Never),
    ("State", Changes::Never),
    ("TimeToLive", Changes::Duration),
    ("To", Changes::Text(TEXT_CHARS)),
    ("ViaPartitionKey", Changes::Text(ID_CHARS)),
];

/// What newer clients call them.
const NEWER: &[(&str, &str)] = &[
    ("EnqueuedTime", "EnqueuedTimeUtc"),
    ("ExpiresAt", "ExpiresAtUtc"),
    ("LockedUntil", "LockedUntilUtc"),
    ("ScheduledEnqueueTime", "ScheduledEnqueueTimeUtc"),
    ("Subject", "Label"),
    ("TransactionPartitionKey", "ViaPartitionKey"),
];

/// The name as a message is asked for it, whatever its case; one that is not known is asked for as it came.
pub(super) fn spelling(name: &str) -> &str {
    let mut newer = NEWER.iter();
    if let Some((_, own)) = newer.find(|(newer, _)| newer.eq_ignore_ascii_case(name)) {
        return own;
    }
    find(name).map_or(name, |(own, _)| own)
}

/// `None` of a property that the system does not have.
pub(super) fn changes(name: &str) -> Option<Changes> {
    find(name).map(|(_, changes)| changes)
}

fn find(name: &str) -> Option<(&'static str, Changes)> {
    let mut all = PROPERTIES.iter();
    all.find(|(own, _)| own.eq_ignore_ascii_case(name)).copied()
}
