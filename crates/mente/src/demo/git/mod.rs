//! `mente demo git`: a repository's history as a stream, and the stream as a repository again.
//!
//! Every commit of the first-parent history becomes one event (a very large one several), whose data
//! is a merge patch of the tree. The stream is then read back and folded by a fold of the demo's own,
//! which computes Git's id of the tree after every commit. Git is asked for its own ids apart: nothing
//! of them is in the events, so the ids are equal only if nothing was lost, added or put in another
//! order. At some commits Mente's own fold is asked as well.

mod appending;
mod compare;
mod fold;
mod history;
mod object;
mod path;
mod progress;
mod report;
mod repository;
mod stream;
mod telling;
mod tree;

use std::path::PathBuf;
use std::sync::Arc;

use mente_broker::EntityName;

use super::home::{Home, HomeArgs};
use crate::failure::{Failure, Result};
use compare::Compared;
use repository::{Repository, failed};
use stream::Stream;

#[derive(Debug, clap::Args)]
pub(crate) struct GitArgs {
    /// The directory of a repository, bare or not
    path: PathBuf,
    #[command(flatten)]
    pub(super) home: HomeArgs,
    /// The stream; repository-NAME of the directory if absent. One that holds a part of the history
    /// goes on
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Only so many commits, the oldest
    #[arg(long, value_name = "COMMITS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

pub(crate) async fn run(args: GitArgs) -> Result<()> {
    let repository = Arc::new(Repository::open(&args.path)?);
    let name = match &args.stream {
        // The letters that need no care in a path or a shell.
        Some(name) => EntityName::new(name.as_str())
            .map_err(|error| Failure::usage(format!("--stream: {error}")))?
            .as_str()
            .to_owned(),
        None => format!("repository-{}", repository.name),
    };
    if repository.is_shallow {
        eprintln!(
            "git: this is a shallow clone: what is before its oldest commit is told with that commit"
        );
    }
    let mut home = Home::open(&args.home, "git").await?;
    let stream = Stream::new(home.client()?, &name);
    let source = format!("/git/{}", repository.name);
    eprintln!("git: telling the history of {} as {name}", repository.head);
    let told = appending::append(&stream, &repository, source, args.limit).await?;
    eprintln!("git: reading {} events back", told.events);
    let compared = compare::compare(&stream, &repository, &told).await?;
    report::results(&repository, &name, &told, &compared)?;
    check(&compared, told.commits)?;
    let path = args.path.to_string_lossy();
    report::commands(&path, &name, args.home.server.as_deref(), &compared)?;
    Ok(home.close().await?)
}

/// Everything must be equal.
fn check(compared: &Compared, commits: u64) -> Result<()> {
    if let Some(different) = &compared.different {
        let message = format!("the stream does not make Git's trees: the first is {different}");
        return Err(failed(&message));
    }
    if let Some(different) = compared.states_different.first() {
        let message = format!("Mente's fold does not make Git's trees: the first is {different}");
        return Err(failed(&message));
    }
    if compared.equal != commits {
        let equal = compared.equal;
        let message = format!("{commits} commits were told, but {equal} compared");
        return Err(failed(&message));
    }
    Ok(())
}
