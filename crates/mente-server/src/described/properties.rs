//! What the properties of queues, topics and subscriptions have in common: their words, and what they are to
//! the broker.

use mente_broker::entity::{Rights, SasRule, Status};
use mente_broker::{EntityName, Error, Kind, MessageCounts, Result};
use mente_wire::servicebus::sas::entity_path;
use mente_wire::servicebus::{AuthorizationRule, Counts, Span};
use ring::rand::{SecureRandom, SystemRandom};

/// What the administration says of an entity that is there.
pub(super) const AVAILABLE: &str = "Available";

const STATUSES: [(&str, Status); 4] = [
    ("Active", Status::Active),
    ("Disabled", Status::Disabled),
    ("SendDisabled", Status::SendDisabled),
    ("ReceiveDisabled", Status::ReceiveDisabled),
];

/// Bytes of a key that is made here.
const KEY_BYTES: usize = 32;

pub(super) fn status(said: Option<&str>) -> Result<Status> {
    let Some(said) = said else {
        return Ok(Status::Active);
    };
    let found = STATUSES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(said));
    found.map(|(_, status)| *status).ok_or_else(|| {
        let names = STATUSES.map(|(name, _)| name).join(", ");
        Error::invalid(format!("Status is one of {names}"))
    })
}

pub(super) fn status_name(status: Status) -> String {
    let found = STATUSES.iter().find(|(_, known)| *known == status);
    found.map_or("Unknown", |(name, _)| name).to_owned()
}

/// A number of the document in the type of a property.
pub(super) fn small(name: &str, said: Option<u64>, default: u32) -> Result<u32> {
    let Some(said) = said else {
        return Ok(default);
    };
    u32::try_from(said).map_err(|_| Error::invalid(format!("{name} is too large: {said}")))
}

/// A length of time that has an end.
pub(super) fn bounded(name: &str, said: Option<Span>, default_ms: u64) -> Result<u64> {
    match said.map(Span::ms) {
        None => Ok(default_ms),
        Some(Some(ms)) => Ok(ms),
        Some(None) => Err(Error::invalid(format!("{name} must have an end"))),
    }
}

/// A length of time that may have none.
pub(super) fn unbounded(said: Option<Span>) -> Option<u64> {
    said.and_then(Span::ms)
}

/// Where messages are forwarded to, which comes as a name or as a URL.
pub(super) fn forward(said: Option<&str>) -> Result<Option<EntityName>> {
    let Some(said) = said else {
        return Ok(None);
    };
    Ok(Some(EntityName::of_path(&entity_path(said))?))
}

/// The same as it is told: as a URL, or as a name where there is no host.
pub(super) fn forwarded(host: Option<&str>, to: Option<&EntityName>) -> Option<String> {
    let path = to?.as_path();
    Some(match host {
        Some(host) => format!("sb://{host}/{path}"),
        None => path,
    })
}

/// Keys that a request leaves out are made.
pub(super) fn authorization(said: Vec<AuthorizationRule>) -> Result<Vec<SasRule>> {
    said.into_iter().map(rule).collect()
}

fn rule(said: AuthorizationRule) -> Result<SasRule> {
    let mut rights = Rights::default();
    for right in &said.rights {
        match right.as_str() {
            "Listen" => rights.listen = true,
            "Send" => rights.send = true,
            "Manage" => rights.manage = true,
            other => {
                let detail = format!("the right {other:?} is none of Listen, Send and Manage");
                return Err(Error::invalid(detail));
            }
        }
    }
    if rights.manage && !(rights.listen && rights.send) {
        let detail = "the right Manage goes with Listen and Send: say all three";
        return Err(Error::invalid(detail));
    }
    Ok(SasRule {
        name: said.name,
        rights,
        primary_key: said.primary_key.map_or_else(key, Ok)?,
        secondary_key: said.secondary_key.map_or_else(key, Ok)?,
    })
}

fn key() -> Result<String> {
    use base64::Engine as _;
    let mut bytes = [0; KEY_BYTES];
    let filled = SystemRandom::new().fill(&mut bytes);
    let message = "the system gives no random numbers for a key";
    filled.map_err(|_| Error::new(Kind::Throttled, message))?;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

pub(super) fn rules(kept: &[SasRule]) -> Vec<AuthorizationRule> {
    let told = |rule: &SasRule| {
        let rights = [
            ("Manage", rule.rights.manage),
            ("Listen", rule.rights.listen),
            ("Send", rule.rights.send),
        ];
        let rights = rights.into_iter().filter(|(_, has)| *has);
        AuthorizationRule {
            name: rule.name.clone(),
            rights: rights.map(|(name, _)| name.to_owned()).collect(),
            primary_key: Some(rule.primary_key.clone()),
            secondary_key: Some(rule.secondary_key.clone()),
            created: None,
            modified: None,
        }
    };
    kept.iter().map(told).collect()
}

pub(super) const fn counts(counts: MessageCounts) -> Counts {
    Counts {
        active: counts.active,
        dead_letters: counts.dead_letters,
        scheduled: counts.scheduled,
        transfer: counts.transfer,
        transfer_dead_letters: counts.transfer_dead_letters,
    }
}

pub(super) const fn sum(counts: &MessageCounts) -> u64 {
    let waiting = counts.active.saturating_add(counts.dead_letters);
    let on_its_way = counts.transfer.saturating_add(counts.transfer_dead_letters);
    waiting
        .saturating_add(counts.scheduled)
        .saturating_add(on_its_way)
}
