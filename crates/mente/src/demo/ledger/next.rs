//! Commands that look further, ready to be pasted.

use std::path::Path;

use super::balances::Balances;
use super::events::TRANSACTED;
use super::store::Held;
use crate::args::HTTP_DEFAULT;
use crate::demo::home::Home;
use crate::failure::Result;
use crate::output::line;

pub(super) fn print(
    file: &Path,
    home: &Home,
    stream: &str,
    held: &[Held],
    balances: &Balances,
) -> Result<()> {
    let default = format!("http://{HTTP_DEFAULT}");
    let file = word(&file.to_string_lossy());
    let stream = word(stream);
    line("")?;
    let url = if home.server.is_some() {
        line("The server ends with the demo. To keep it, and to look further:")?;
        line("  mente dev")?;
        line(&format!("  mente demo ledger {file} --server {default}"))?;
        default.clone()
    } else {
        line("To look further:")?;
        home.url.trim_end_matches('/').to_owned()
    };
    let server = match url == default {
        true => String::new(),
        false => format!(" --server {}", word(&url)),
    };
    let last = held.last().map_or(0, |held| held.revision);
    let transaction = held.iter().rfind(|held| held.kind == TRANSACTED);
    let transaction = transaction.map_or(last, |held| held.revision);
    let account = balances.rows().next();
    let account = account.map_or("Assets", |(account, ..)| account);
    let field = word(&format!("balances.{account}"));
    for command in [
        format!("state {stream} --at {last}"),
        format!("log {stream}"),
        format!("diff {stream} {} {last}", last / 2),
        format!("blame {stream} {field}"),
        format!("whatif {stream} --drop {transaction}"),
    ] {
        line(&format!("  mente stream {command}{server}"))?;
    }
    line(&format!(
        "  mente demo ledger {file} --stream {stream} --server {} --reverse {transaction} --because TEXT",
        word(&url)
    ))
}

/// One word for a shell.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:~@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let visible: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("'{}'", visible.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_are_safe_to_paste() {
        for (text, expect) in [
            ("balances.Assets:Börse", "balances.Assets:Börse"),
            ("a b", "'a b'"),
            ("it's;", r"'it'\''s;'"),
            ("", "''"),
            ("a\u{1b}\n", "'a'"),
        ] {
            assert_eq!(super::word(text), expect);
        }
    }
}
