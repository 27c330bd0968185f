//! Servers that have a bug on purpose: laws that let it pass prove nothing of a server without.

use std::path::Path;

use anyhow::{Context, Result};
use mente_sim::history::Op;
use mente_sim::{Law, Violation, check_to_end};

use super::episode::{self, Faults, Left, Means, Medium};
use super::{diary, drop_data};
use crate::failure::{Code, Failure};
use crate::output::line;
use crate::planted::VARIABLE;

/// More than any of them needed when it was planted.
const EPISODES: u64 = 6;
const KILLS: u32 = 6;

/// Each with the laws of queues of messages that must show it.
const CLAIMS: [(&str, &[Law]); 4] = [
    ("settle-not-journaled", &[Law::SettledAgain]),
    ("half-a-lock", &[Law::TwoLocks]),
    ("give-up-early", &[Law::WrongDelivery]),
    ("tear-batches", &[Law::NotWhole]),
];

/// Succeeds if every one of these was found, or of all if none is named.
pub(super) fn run(bugs: &[String]) -> crate::failure::Result<()> {
    let is_known = |bug: &str| CLAIMS.iter().any(|(name, _)| *name == bug);
    if let Some(unknown) = bugs.iter().find(|bug| !is_known(bug)) {
        let names = CLAIMS.map(|(name, _)| name).join(", ");
        let message = format!("no bug {unknown:?} can be planted; there are {names}");
        return Err(Failure::usage(message));
    }
    let is_asked = |name: &str| bugs.is_empty() || bugs.iter().any(|bug| bug == name);
    let folder = tempfile::Builder::new().prefix("mente-hunt-").tempdir();
    let folder = folder.context("cannot make a temporary directory")?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the executor")?;
    let mut missed = Vec::new();
    for (name, laws) in CLAIMS.into_iter().filter(|(name, _)| is_asked(name)) {
        match runtime.block_on(hunt(folder.path(), name, laws))? {
            Some((episodes, violation)) => {
                line(&format!("{name}, in episode {episodes}: {violation}"))?;
            }
            None => missed.push(name),
        }
    }
    if missed.is_empty() {
        return Ok(());
    }
    let kept = folder.keep();
    let (names, kept) = (missed.join(", "), kept.display());
    let message = format!("no law shows {names}; the histories are in {kept}");
    Err(Failure::new(Code::Failed, message))
}

/// The first violation that claims it, and in which episode it was.
async fn hunt(folder: &Path, name: &str, laws: &[Law]) -> Result<Option<(u64, Violation)>> {
    let means = Means {
        variables: vec![(VARIABLE, name.into())],
        ..Means::default()
    };
    for number in 1..=EPISODES {
        let kills = Left::Faults(Faults {
            own: KILLS,
            ..Faults::default()
        });
        let episode = folder.join(format!("{name}-{number}"));
        episode::run(&episode, Medium::Directory, number, kills, &means)
            .await
            .with_context(|| format!("an episode with {name}"))?;
        let history = diary::read(&episode.join("history"))?;
        drop_data(&episode)?;
        let mut all = check_to_end(&history).into_iter();
        // What clients of HTTP found is another proof.
        let is_of_queues = |at: usize| {
            let entry = history.get(at);
            entry.is_some_and(|entry| matches!(entry.op, Op::Messages(_)))
        };
        let found = all.find(|v| laws.contains(&v.law) && is_of_queues(v.at));
        if let Some(found) = found {
            return Ok(Some((number, found)));
        }
    }
    Ok(None)
}
