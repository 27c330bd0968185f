//! What came of it, and what to try now.

use std::time::Duration;

use super::appending::Account;
use super::compare::Compared;
use super::repository::Repository;
use crate::args::HTTP_DEFAULT;
use crate::failure::Result;
use crate::output::line;

/// Skipped revisions that are named.
const NAMED: usize = 20;

pub(super) fn results(
    repository: &Repository,
    stream: &str,
    told: &Account,
    compared: &Compared,
) -> Result<()> {
    let row = |name: &str, text: String| line(&format!("  {name:<13}{text}"));
    let (format, head) = (repository.format.name(), &repository.head);
    row("history", format!("of {head}, {format}, first parents"))?;
    row("stream", stream.to_owned())?;
    let which = if told.is_whole { "" } else { ", the oldest" };
    row("commits", format!("{}{which}", told.commits))?;
    row("events", told.events.to_string())?;
    row("bytes", told.bytes.to_string())?;
    let appended = told.events - told.repeated;
    if appended > 0 {
        let rate = rate(appended, told.appending);
        let took = seconds(told.took);
        let text = format!("{appended} events, {rate} events/s; with the reading of Git {took}");
        row("appended", text)?;
    }
    if told.repeated > 0 {
        row("repeated", format!("{} events were there", told.repeated))?;
    }
    let rate = rate(compared.commits, compared.folding);
    let reading = compared
        .took
        .saturating_sub(compared.folding)
        .saturating_sub(compared.asking);
    let text = format!(
        "and hashed {rate} commits/s; reading back took {}, Mente's states {}",
        seconds(reading),
        seconds(compared.asking)
    );
    row("folded", text)?;
    let (equal, commits) = (compared.equal, compared.commits);
    line(&format!("  trees equal {equal} of {commits}"))?;
    if let Some(different) = &compared.different {
        line(&format!("  FIRST DIFFERENT {different}"))?;
    }
    states(compared)
}

fn states(compared: &Compared) -> Result<()> {
    let asked = compared.folded.len() + compared.states_skipped.len();
    let equal = compared.states_equal;
    line(&format!(
        "  states equal {equal} of {asked}, by Mente's own fold"
    ))?;
    for different in &compared.states_different {
        line(&format!("  STATE DIFFERENT {different}"))?;
    }
    let skipped = &compared.states_skipped;
    if let Some(why) = &compared.skipped_because {
        let named: Vec<String> = skipped.iter().take(NAMED).map(u64::to_string).collect();
        line(&format!(
            "  states NOT compared: {}, at revisions {}: {why}",
            skipped.len(),
            named.join(" ")
        ))?;
    }
    Ok(())
}

/// Commands to paste. `url` is that of a server that goes on.
pub(super) fn commands(
    path: &str,
    stream: &str,
    url: Option<&str>,
    compared: &Compared,
) -> Result<()> {
    line("")?;
    let default = format!("http://{HTTP_DEFAULT}");
    let mut server = String::new();
    match url {
        Some(url) => {
            line("To look at it:")?;
            if url.trim_end_matches('/') != default {
                server = format!(" --server {}", quoted(url));
            }
        }
        None => {
            line("The demo's server ends with it. To keep one, in one terminal:")?;
            line("  mente dev")?;
            line("and in another:")?;
            let path = quoted(path);
            line(&format!(
                "  mente demo git {path} --server {default} --stream {stream}"
            ))?;
            line("Then look at it:")?;
        }
    }
    let verb = |words: String| line(&format!("  mente stream {words}{server}"));
    verb(format!("log {stream}"))?;
    let folded = &compared.folded;
    let (Some(last), Some(middle)) = (
        folded.last(),
        folded.get(folded.len().saturating_sub(1) / 2),
    ) else {
        return line("Its states are too large for the other verbs.");
    };
    verb(format!("state {stream} --at {middle}"))?;
    verb(format!("diff {stream} {middle} {last}"))?;
    if let Some(example) = &compared.example {
        verb(format!("blame {stream} tree.{example}"))?;
    }
    verb(format!("whatif {stream} --drop {middle}"))
}

fn rate(count: u64, took: Duration) -> u64 {
    let seconds = took.as_secs_f64().max(1e-6);
    (count as f64 / seconds) as u64
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

/// For a shell.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/:@+=,~".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("/srv/tool.git"), "/srv/tool.git");
        assert_eq!(quoted("my tool"), "'my tool'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
