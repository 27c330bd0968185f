//! The queue laws of the end: what was sent = what was done + dead letters, once nothing is left, and
//! nothing dies without cause.

use std::collections::BTreeMap;

use super::queue::{Check, Delivery};
use super::{Findings, Law};
use crate::history::{Call, EXPIRED, How, Letter, Phase, STORE};

const MS: u64 = 1_000_000;

impl<'a> Check<'a> {
    /// Now that nothing is left.
    pub(super) fn ends(&self, findings: &mut Findings) {
        let Some((call, letters)) = self.subscription.letters else {
            return;
        };
        let (mut dead, mut origins) = (BTreeMap::new(), BTreeMap::new());
        // Each time that they are given back they may die again.
        let lives = 1 + self.subscription.revivals.before(call);
        for letter in letters {
            let of_origin = origins.entry(&letter.origin).or_insert(0);
            let of_value = dead.entry(letter.value.as_str()).or_insert(0);
            *of_origin += 1;
            *of_value += 1;
            if *of_origin.max(of_value) > lives {
                let detail = format!("{}: two dead letters of {}", self.name, letter.value);
                findings.add(Law::TwoEnds, call.ended, detail);
            }
            if let Some((law, why)) = self.wrong_death(call, letter) {
                let detail = format!("{}: {} {why}", self.name, letter.value);
                findings.add(law, call.ended, detail);
            }
        }
        for (value, place) in &self.topic.stored {
            let trimmed = self.topic.trimmed.get(&place.partition);
            let is_trimmed = trimmed.is_some_and(|before| place.offset < *before);
            let is_for_it = self.topic.sent.contains_key(value) && self.is_wanted(value);
            let completed = self.settled(value, How::Complete);
            let rejected = self.settled(value, How::Reject);
            let is_dead = dead.contains_key(value);
            let fault = match (completed, is_dead) {
                (Some(true), true) if !self.is_given_back(value) => {
                    Some((Law::TwoEnds, "completed and dead-lettered"))
                }
                (None, false) if rejected != Some(true) => {
                    Some((Law::Vanished, "neither completed nor dead-lettered"))
                }
                (_, false) if rejected == Some(true) && !self.is_given_back(value) => {
                    Some((Law::Vanished, "rejected, and no dead letter"))
                }
                _ => None,
            };
            let fault = fault.or_else(|| self.never_came(value));
            if let Some((law, why)) = fault.filter(|_| is_for_it && !is_trimmed) {
                let detail = format!("{}: {value} at {place}: {why}", self.name);
                findings.add(law, call.ended, detail);
            }
        }
    }

    /// Whether somebody settled it so: certainly, perhaps, or not. That Mente has a webhook's answer is
    /// never certain.
    fn settled(&self, value: &str, how: How) -> Option<bool> {
        let deliveries = self.subscription.deliveries.get(value);
        let settles = deliveries
            .into_iter()
            .flatten()
            .flat_map(|d| self.settles_of(&d.what.token));
        let of_kind = settles.filter(|s| s.how == how && s.held != Some(false));
        let heard = self.subscription.heard.get(value);
        let heard = heard.into_iter().flatten().filter(|(_, status)| match how {
            How::Complete => (200..300).contains(status),
            How::Reject => *status == 400,
            How::Release | How::Renew => false,
        });
        let certain = of_kind.map(|s| s.held == Some(true));
        certain.chain(heard.map(|_| false)).max()
    }

    fn wrong_death(&self, call: &Call<'_>, letter: &Letter) -> Option<(Law, &'static str)> {
        let value = letter.value.as_str();
        // Of the store's offsets nobody here knows.
        let is_store = self.subscription.topic == STORE;
        let place = self.topic.stored.get(value).filter(|_| !is_store);
        if place.is_some_and(|place| place.to_string() != letter.origin) || !self.is_wanted(value) {
            return Some((Law::Invented, "is a dead letter of nothing"));
        }
        let deliveries = self.subscription.deliveries.get(value);
        let most = deliveries.into_iter().flatten().map(|d| d.what.count).max();
        let unseen = self.subscription.unseen.len() as u32;
        let too_often = most.unwrap_or(0) + unseen >= self.subscription.max_deliveries;
        let is_given_up = too_often || self.settled(value, How::Reject).is_some();
        // Who knows no reason may not be told that it was another.
        let may_expire = letter
            .reason
            .as_deref()
            .is_none_or(|reason| reason == EXPIRED);
        let must_expire = letter.reason.as_deref() == Some(EXPIRED);
        match self.subscription.ttl.filter(|_| may_expire) {
            Some(ttl) if must_expire && !self.may_be_older(value, call, ttl) => {
                Some((Law::ExpiredEarly, "is dead before its time was over"))
            }
            Some(_) => None,
            None if is_given_up && !must_expire => None,
            None => Some((Law::WrongDelivery, "is dead, and nobody gave it up")),
        }
    }

    /// Whether it may have been older than `ttl`, by the wall clock of the server, before this call
    /// ended.
    fn may_be_older(&self, value: &str, call: &Call<'_>, ttl: u64) -> bool {
        let Some(sent) = self.topic.sent.get(value).map(|sent| sent.call) else {
            return true;
        };
        // Nobody knows when what was not answered was written.
        let written = match sent.phase {
            Phase::Ok => sent.ended_at,
            _ => call.ended_at,
        };
        let (born, _) = self.wall.between(sent.invoked_at, written);
        let (_, last) = self.wall.between(sent.invoked_at, call.ended_at);
        last - born > i128::from(ttl)
    }

    /// What is older than it may be is given up, not handed out.
    pub(super) fn check_time_to_live(
        &self,
        value: &str,
        delivery: &Delivery<'_>,
        findings: &mut Findings,
    ) {
        let sent = self.topic.sent.get(value).map(|sent| sent.call);
        let sent = sent.filter(|sent| sent.phase == Phase::Ok);
        let (Some(ttl), Some(sent)) = (self.subscription.ttl, sent) else {
            return;
        };
        let (_, born) = self.wall.between(sent.invoked_at, sent.ended_at);
        let call = delivery.call;
        // Its time begins anew when it is given back.
        if self.subscription.revivals.within(sent.invoked, call.ended) {
            return;
        }
        let (now, _) = self.wall.between(call.invoked_at, call.ended_at);
        // The server counts in milliseconds.
        if now - born > i128::from(ttl + MS) {
            let why = format!("it was older than {} ms", ttl / MS);
            self.add(findings, Law::Expired, delivery, &why);
        }
    }
}
