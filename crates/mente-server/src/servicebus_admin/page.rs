//! Pages of lists: `$skip` and `$top`, and where the next one is.

use mente_wire::servicebus::atom::{Description, Entry, Feed};

use super::error::{Refusal, Result};
use super::request::Request;
use crate::described::UNKNOWN;

/// Entries of a page at most, and where the client says no number.
const TOP: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) skip: usize,
    pub(super) top: usize,
}

impl Page {
    pub(super) fn of(request: &Request<'_>) -> Result<Self> {
        Ok(Self {
            skip: number(request, "$skip")?.unwrap_or(0),
            top: number(request, "$top")?.unwrap_or(TOP).clamp(1, TOP),
        })
    }

    /// What of a list is on the page, and whether there is more.
    pub(super) fn cut<T>(self, all: Vec<T>) -> (Vec<T>, bool) {
        let has_more = all.len() > self.skip.saturating_add(self.top);
        let page = all.into_iter().skip(self.skip).take(self.top).collect();
        (page, has_more)
    }

    pub(super) fn feed<T: Description>(
        self,
        request: &Request<'_>,
        title: &str,
        entries: Vec<Entry<T>>,
        has_more: bool,
    ) -> Feed<T> {
        let id = request.url(request.path());
        let next = has_more.then(|| {
            let joint = if id.contains('?') { '&' } else { '?' };
            let skip = self.skip + self.top;
            format!("{id}{joint}%24skip={skip}&%24top={}", self.top)
        });
        Feed {
            title: title.to_owned(),
            updated: entries
                .iter()
                .map(|entry| entry.updated)
                .max()
                .unwrap_or(UNKNOWN),
            id,
            next,
            entries,
        }
    }
}

fn number(request: &Request<'_>, name: &str) -> Result<Option<usize>> {
    let Some(text) = request.parameter(name) else {
        return Ok(None);
    };
    let number = text
        .parse()
        .map_err(|_| Refusal::bad_request(format!("the parameter {name} is no whole number")));
    number.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_end_with_the_list() {
        let page = |skip, top| Page { skip, top }.cut((0..5).collect::<Vec<_>>());
        assert_eq!(page(0, 5), ((0..5).collect(), false));
        assert_eq!(page(0, 4), ((0..4).collect(), true));
        assert_eq!(page(4, 4), (vec![4], false));
        assert_eq!(page(9, 4), (vec![], false));
        assert_eq!(page(usize::MAX, 4), (vec![], false));
    }
}
