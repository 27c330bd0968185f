//! Reads the stream back and holds it against Git: after every commit the tree of the events must be
//! Git's, and at some commits Mente's own fold must be the same map.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::appending::Account;
use super::fold::Fold;
use super::object::Id;
use super::progress::Progress;
use super::repository::{Repository, Running, failed};
use super::stream::{Found, State, Stream};
use crate::failure::{Code, Failure, Result};
use crate::output::printable;

/// Commits at which Mente's own fold is asked, the last one among them.
const ASKED: u64 = 20;
/// Longest id that Git says.
const WORD_BYTES: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) commits: u64,
    /// Commits whose tree is Git's.
    pub(super) equal: u64,
    /// The first commit whose tree is not.
    pub(super) different: Option<String>,
    /// Commits at which Mente's fold was compared and is the same.
    pub(super) states_equal: u64,
    pub(super) states_different: Vec<String>,
    /// Revisions at which there is no state to compare, and why.
    pub(super) states_skipped: Vec<u64>,
    pub(super) skipped_because: Option<String>,
    /// Folding and hashing alone.
    pub(super) folding: Duration,
    /// Asking for states and comparing them.
    pub(super) asking: Duration,
    /// All of it.
    pub(super) took: Duration,
    /// Revisions of commits that have a state, for examples.
    pub(super) folded: Vec<u64>,
    /// A path of the last such commit.
    pub(super) example: Option<String>,
}

struct Comparison<'a> {
    stream: &'a Stream,
    repository: &'a Repository,
    /// Commits and their trees, as Git says.
    roots: Running,
    asked: BTreeSet<u64>,
    fold: Fold,
    result: Compared,
}

pub(super) async fn compare(
    stream: &Stream,
    repository: &Repository,
    told: &Account,
) -> Result<Compared> {
    let began = Instant::now();
    let mut comparison = Comparison {
        stream,
        repository,
        roots: repository.log("%H%x00%T")?,
        asked: asked(told.commits),
        fold: Fold::new(repository.format),
        result: Compared::default(),
    };
    let mut progress = Progress::new();
    let mut next = 0;
    loop {
        let page = stream.page(next).await?;
        if page.is_empty() {
            break;
        }
        for found in &page {
            if next == told.events && !told.is_whole {
                return Ok(comparison.end(began));
            }
            if found.revision != next {
                let message = format!(
                    "the server answered revision {} instead of {next}",
                    found.revision
                );
                return Err(failed(&message));
            }
            comparison.take(found, told).await?;
            next += 1;
        }
        let commits = comparison.result.commits;
        progress.say(|| format!("{commits} of {} commits compared", told.commits));
    }
    if next < told.events {
        let (name, events) = (stream.name(), told.events);
        let message =
            format!("the stream {name} gives {next} events back, but {events} were appended");
        return Err(failed(&message));
    }
    Ok(comparison.end(began))
}

impl Comparison<'_> {
    async fn take(&mut self, found: &Found, told: &Account) -> Result<()> {
        if found.revision >= told.events {
            return Err(self.foreign(found, "the history is at its end there"));
        }
        let began = Instant::now();
        let commit = self.fold.apply(found);
        let commit = commit.map_err(|why| self.foreign(found, &why))?;
        let Some(commit) = commit else {
            self.result.folding += began.elapsed();
            return Ok(());
        };
        let (of_git, root) = self.root()?;
        if commit != of_git {
            let why = format!("the history goes on with commit {of_git} there");
            return Err(self.foreign(found, &why));
        }
        let same = self.fold.compare(root);
        self.result.folding += began.elapsed();
        let revision = found.revision;
        match same {
            Ok(()) => self.result.equal += 1,
            Err(why) => {
                let named = format!("commit {commit} at revision {revision}: {why}");
                self.result.different.get_or_insert(named);
            }
        }
        if self.asked.contains(&self.result.commits) {
            self.ask(revision, &commit).await?;
        }
        self.result.commits += 1;
        Ok(())
    }

    /// Holds Mente's fold against this one.
    async fn ask(&mut self, revision: u64, commit: &str) -> Result<()> {
        let began = Instant::now();
        match self.stream.state(revision).await? {
            State::Folded(state) => {
                match self.fold.compare_state(&state, commit) {
                    Ok(()) => self.result.states_equal += 1,
                    Err(why) => {
                        let named = format!("revision {revision}: {why}");
                        self.result.states_different.push(named);
                    }
                }
                self.result.folded.push(revision);
                self.result.example = self.fold.example();
            }
            State::TooLarge(why) => {
                self.result.states_skipped.push(revision);
                self.result.skipped_because.get_or_insert(why);
            }
        }
        self.result.asking += began.elapsed();
        Ok(())
    }

    /// Git's next commit and its tree.
    fn root(&mut self) -> Result<(String, Id)> {
        let commit = self.roots.text(WORD_BYTES)?;
        let tree = self.roots.text(WORD_BYTES)?;
        let tree = tree.and_then(|tree| Id::from_hex(self.repository.format, &tree));
        commit
            .zip(tree)
            .ok_or_else(|| failed("Git tells fewer commits than the first time"))
    }

    fn foreign(&self, found: &Found, why: &str) -> Failure {
        let (stream, revision) = (self.stream.name(), found.revision);
        let id = printable(&found.event.id);
        let message = format!(
            "the stream {stream} at revision {revision} holds the event {id:?}, which this history does \
             not: {why}; look at it with `mente stream read {stream} --from {revision}`, or name a new \
             stream with --stream"
        );
        Failure::new(Code::Failed, message)
    }

    fn end(mut self, began: Instant) -> Compared {
        self.result.took = began.elapsed();
        self.result
    }
}

/// Evenly spaced, the last one among them.
fn asked(commits: u64) -> BTreeSet<u64> {
    let place = |part: u64| (u128::from(commits) * u128::from(part)).div_ceil(u128::from(ASKED));
    (1..=ASKED)
        .filter_map(|part| u64::try_from(place(part)).ok()?.checked_sub(1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_asked_at_even_distances_and_at_the_end() {
        assert!(asked(0).is_empty());
        assert_eq!(asked(1), BTreeSet::from([0]));
        assert_eq!(asked(3), BTreeSet::from([0, 1, 2]));
        let many = asked(39_416);
        assert_eq!((many.len(), many.last()), (20, Some(&39_415)));
        assert_eq!(many.first(), Some(&1_970));
    }
}
