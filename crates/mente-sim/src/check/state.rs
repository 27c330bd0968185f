//! The state of a stream at a revision is the fold of its events up to there, as others read them.

use super::Law;
use super::stream::Check;
use crate::history::{Call, Told};

impl<'a> Check<'a> {
    pub(super) fn state(
        &mut self,
        call: &Call<'a>,
        stream: &'a str,
        at: Option<u64>,
        told: &'a Told,
    ) {
        let shown = format!(
            "the state of {stream} at {at:?} is told of {}",
            told.revision
        );
        let count = told.ids.len() as u64;
        if told.events != count || at.is_some_and(|at| at != told.revision) {
            let detail = format!("{shown}: {} events, {count} ids", told.events);
            self.add(Law::FoldDiffers, call, detail);
        }
        let known = self.there.range((stream, 0)..=(stream, u64::MAX));
        let mut known = known.filter(|(_, (_, since))| *since < call.invoked);
        if let Some(((_, last), _)) = known.next_back()
            && at.is_none()
            && *last > told.revision
        {
            let detail = format!("{shown}: {last} was there before");
            self.add(Law::FoldDiffers, call, detail);
        }
        let begin = (told.revision + 1).saturating_sub(count);
        if begin < self.hidden.must_begin(stream, call) {
            let detail = format!("{shown} from {begin} on, which is hidden");
            self.add(Law::Resurrected, call, detail);
        }
        if begin > self.hidden.may_begin(stream, call) {
            let detail = format!("{shown}, and begins with {begin}");
            self.add(Law::FoldDiffers, call, detail);
        }
        for (id, revision) in told.ids.iter().zip(begin..) {
            self.check_tried(call, stream, revision, id);
            let place = self.there.entry((stream, revision));
            let (other, _) = *place.or_insert((id, call.ended));
            if other != id {
                let detail = format!("{shown}: {id} at {revision}, where {other} is");
                self.add(Law::FoldDiffers, call, detail);
            }
        }
    }
}
