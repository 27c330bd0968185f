//! `mente projection test FILE…`: a declaration is tried on given events, without a server.
//!
//! ```json
//! {"name": "a second order adds up",
//!  "projection": {"file": "totals.json"},
//!  "given": [{"stream": "order-1", "type": "Placed", "data": {"sum": 3}},
//!            {"stream": "order-1", "type": "Placed", "data": {"sum": "many"}}],
//!  "expect": {"totals": [{"id": "order-1", "sum": 3}],
//!             "SELECT count(*) FROM totals": [[1]]},
//!  "refuse": {"2": "CHECK constraint failed"}}
//! ```
//! What judges is what a server runs: a broker, on an engine in memory, its projections, and queries of the rows. Each
//! case has its own, and events come one by one, so that it is known which of them is refused.

mod case;
mod rows;
mod world;

use std::path::{Path, PathBuf};

use mente_broker::{EntityName, Error};
use mente_engine::limits;
use mente_server::projection::declaration::Declaration;

use crate::failure::{Code, Failure, Result};
use crate::output::{line, printable};
use case::Case;
use world::{Outcome, World};

/// What the projection is called in messages.
const NAME: &str = "tested";

/// All files are read before the first case is tried.
pub(super) async fn run(files: &[PathBuf]) -> Result<()> {
    let read = files.iter().map(|file| Ok((file, case::read(file)?)));
    let read: Vec<(&PathBuf, Vec<Case>)> = read.collect::<Result<_>>()?;
    let mut failed = 0;
    let mut tried = 0;
    for (file, cases) in &read {
        for (index, case) in cases.iter().enumerate() {
            tried += 1;
            let faults = judge(case).await?;
            tell(file, index + 1, case, &faults)?;
            failed += usize::from(!faults.is_empty());
        }
    }
    if failed == 0 {
        return Ok(());
    }
    let message = format!("{failed} of {tried} failed: see above");
    Err(Failure::new(Code::Failed, message))
}

fn tell(file: &Path, number: usize, case: &Case, faults: &[String]) -> Result<()> {
    let word = if faults.is_empty() { "ok" } else { "FAILED" };
    let name = case
        .name
        .as_ref()
        .map_or_else(String::new, |name| format!(": {name}"));
    let title = format!("{word:<8}{} {number}{name}", file.display());
    line(&printable(&title))?;
    for fault in faults {
        line(&format!("  {}", printable(fault)))?;
    }
    Ok(())
}

/// What is not as the case has it; fails only where nothing could be tried.
async fn judge(case: &Case) -> anyhow::Result<Vec<String>> {
    let name = EntityName::new(NAME)?;
    let refused = |error: Error| vec![format!("the declaration is refused: {}", error.message)];
    let declaration = match Declaration::parse(&name, &case.projection) {
        Ok(declaration) => declaration,
        Err(error) => return Ok(refused(error)),
    };
    let world = World::open(name, declaration).await?;
    let faults = match world.define(&case.projection).await {
        Ok(()) => attempt(&world, case).await,
        Err(error) => refused(error),
    };
    world.close().await;
    Ok(faults)
}

async fn attempt(world: &World, case: &Case) -> Vec<String> {
    let mut faults = Vec::new();
    // A projection that does not come as far as its first event says why.
    if let Err(fault) = world.begun().await {
        return vec![fault];
    }
    for (index, given) in case.given.iter().enumerate() {
        let number = index + 1;
        let expected = case.refuse.get(&number);
        let fed = match case::event(given, number, world.is_of_store()) {
            Ok((stream, event)) => world.feed(stream, event).await,
            Err(fault) => Err(fault),
        };
        match (fed, expected) {
            (Ok(Outcome::Folded), None) => {}
            (Ok(Outcome::Folded), Some(part)) => {
                let fault = format!("event {number} is not refused, but should be: {part:?}");
                faults.push(fault);
            }
            (Ok(Outcome::Refused(why)), Some(part)) if why.message.contains(part) => {}
            (Ok(Outcome::Refused(why)), Some(part)) => {
                let fault = format!("event {number} is refused, but not for {part:?}: {why}");
                faults.push(fault);
            }
            (Ok(Outcome::Refused(why)), None) => {
                faults.push(format!("event {number} is refused: {why}"));
            }
            (Err(fault), _) => {
                faults.push(format!("event {number}: {fault}"));
                return faults;
            }
        }
        if world.has_stopped().await {
            faults.extend(unreached(case, number));
            break;
        }
    }
    for (asked, expected) in &case.expect {
        match world.ask(&rows::statement(asked)).await {
            Ok(answer) if answer.truncated => {
                let most = limits::QUERY_ROWS;
                let fault = format!("{asked}: more rows than {most} or than fit: ask for less");
                faults.push(fault);
            }
            Ok(answer) => faults.extend(rows::compare(asked, &answer, expected)),
            Err(error) => faults.push(format!("{asked}: {}", error.message)),
        }
    }
    faults
}

/// What was to be refused behind the event that stopped the projection.
fn unreached(case: &Case, stopped: usize) -> Vec<String> {
    let behind = case.refuse.keys().filter(|number| **number > stopped);
    let fault = |number: &usize| {
        format!(
            "event {number} is not tried: event {stopped} stopped the projection; \"onError\": \"park\" goes on"
        )
    };
    behind.map(fault).collect()
}
