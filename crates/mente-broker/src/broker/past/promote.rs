//! An alternative made true: what would have come behind is appended, and a correction for the rest.

use super::{AsOf, WhatIf};
use crate::access::{Action, Principal, authorize};
use crate::broker::Broker;
use crate::error::{Error, Kind, Result};
use crate::fold::correction;
use crate::fold::difference::{Change, between};
use crate::identity::derived;
use crate::name::StreamName;
use crate::store::{AppendedTo, Expected};

/// What was appended to make an alternative true.
#[derive(Clone, Debug, PartialEq)]
pub struct Promoted {
    pub appended: AppendedTo,
    /// What the correction changes.
    pub changes: Vec<Change>,
}

impl Broker {
    /// Appends to a stream what makes its state the one that it would have if its events were others: the
    /// events that `what_if` appends, and one `Mente.Correction` for what they leave, with this id or one that
    /// follows from it. Only if nobody appends meanwhile, and nobody did since revision `at`. With `at` the
    /// call can be repeated.
    pub async fn stream_promote(
        &self,
        who: &Principal,
        stream: &StreamName,
        at: Option<u64>,
        id: Option<&str>,
        what_if: &WhatIf,
    ) -> Result<Promoted> {
        authorize(self.options.access, who, Action::Send, stream)?;
        let as_of = at.map_or(AsOf::Now, AsOf::Revision);
        let wanted = self.told_otherwise(who, stream, as_of, what_if).await?;
        let only_appended = WhatIf {
            append: what_if.append.clone(),
            ..WhatIf::default()
        };
        let at = AsOf::Revision(wanted.revision);
        let left = self.told_otherwise(who, stream, at, &only_appended).await?;
        let changes = match (left.after.as_object(), wanted.after.as_object()) {
            (Some(is), Some(wanted)) => between(is, wanted),
            _ => Vec::new(),
        };
        let mut events = what_if.append.clone();
        if !changes.is_empty() {
            let dropped = what_if.drop.iter().copied().collect();
            let replaced = what_if.replace.keys().copied().collect();
            let mut event = correction::event(String::new(), changes.clone(), dropped, replaced);
            let revision = wanted.revision.to_string();
            let says = event
                .data
                .bytes()
                .map(|bytes| String::from_utf8_lossy(bytes));
            let says = says.unwrap_or_default().into_owned();
            let derive = || derived(&["correction", stream.as_str(), &revision, &says]);
            event.id = id.map_or_else(derive, str::to_owned);
            events.push(event);
        }
        if events.is_empty() {
            let message = "the state would be the same: there is nothing to make true";
            return Err(Error::invalid(message));
        }
        // An event that cannot be folded, or makes another state, would be there for ever.
        let made = WhatIf {
            append: events.clone(),
            ..WhatIf::default()
        };
        let made = self.told_otherwise(who, stream, at, &made).await?;
        if made.after != wanted.after {
            let message = "no correction makes this state";
            return Err(Error::new(Kind::Unsupported, message));
        }
        let expected = Expected::Revision(wanted.revision);
        let appended = self.append_stream(who, stream, expected, events).await?;
        Ok(Promoted { appended, changes })
    }
}
