//! The pages of `docs/patterns` do what they say: every block of shell is run, and prints what the page shows.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The addresses that the pages name.
const WRITTEN: [&str; 2] = ["127.0.0.1:8480", "127.0.0.1:8490"];
/// Printed before each block.
const MARK: &str = "@@@@";

/// A block of shell and what the page shows of its output.
#[derive(Debug)]
struct Block {
    line: usize,
    shell: String,
    shown: Option<String>,
}

#[test]
fn event_notification() {
    run("event-notification.md");
}

#[test]
fn event_sourcing() {
    run("event-sourcing.md");
}

#[test]
fn state_transfer() {
    run("state-transfer.md");
}

#[test]
fn cqrs() {
    run("cqrs.md");
}

#[test]
fn sagas() {
    run("sagas.md");
}

#[test]
fn every_page_is_run() {
    let source = std::fs::read_to_string(file!().replace("crates/mente/", "")).unwrap();
    for page in std::fs::read_dir(pages()).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        assert!(
            source.contains(&format!("run(\"{name}\")")),
            "{name} is run by nobody"
        );
    }
}

fn pages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/patterns")
}

fn run(page: &str) {
    let text = std::fs::read_to_string(pages().join(page)).unwrap();
    let blocks = blocks(&text);
    assert!(blocks.len() > 2, "{page} has no blocks");
    let free = WRITTEN.map(|_| lasting());
    let addresses = free.map(|free| free.local_addr().unwrap().to_string());
    let placed = |shell: &str| {
        let addresses = WRITTEN.iter().zip(&addresses);
        addresses.fold(shell.to_owned(), |shell, (written, address)| {
            shell.replace(written, address)
        })
    };
    let mut script = "set -eu\n".to_owned();
    for block in &blocks {
        script += &format!("echo {MARK}\n{}", placed(&block.shell));
    }
    // What a page that fails leaves behind.
    script =
        format!("trap 'kill -9 $(cat pid *.pid 2> /dev/null) 2> /dev/null || true' EXIT\n{script}");
    let directory = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_mente")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("timeout")
        .args(["120", "bash", "-c", &format!("exec 2>&1\n{script}")])
        .current_dir(directory.path())
        .env("PATH", format!("{}:{path}", program.display()))
        .env("MENTE_HTTP", &addresses[0])
        .env("MENTE_SERVER", format!("http://{}", addresses[0]))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let mark = format!("{MARK}\n");
    let mut parts = printed.split(&mark).skip(1);
    for block in &blocks {
        let printed = parts.next().unwrap_or_default();
        let is_as_shown = match &block.shown {
            Some(shown) => is_alike(shown, printed),
            None => true,
        };
        let line = block.line;
        assert!(is_as_shown, "{page}, line {line}: it prints\n{printed}");
    }
    assert!(
        output.status.success(),
        "{page}: {}\n{printed}",
        output.status
    );
}

/// A port that is still free when a server that was killed comes back to it: none of those that the system gives to
/// whoever connects somewhere.
fn lasting() -> TcpListener {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(10_000..32_000));
    let mut bound = ports
        .by_ref()
        .map(|port| TcpListener::bind(("127.0.0.1", port)));
    bound.find_map(Result::ok).unwrap()
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((line, fence)) = lines.next() {
        let is_shown = match fence {
            "```sh" => false,
            "```text" => true,
            _ => continue,
        };
        let body: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| *line != "```")
            .collect();
        let body = body.join("\n") + "\n";
        match blocks.last_mut().filter(|_| is_shown) {
            Some(last) => last.shown = Some(body),
            None => blocks.push(Block {
                line: line + 1,
                shell: body,
                shown: None,
            }),
        }
    }
    blocks
}

/// Line by line, however wide the columns are; `…` stands for any words.
fn is_alike(shown: &str, printed: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        // Bash tells of a job that was killed.
        let is_said = |line: &String| !line.is_empty() && !line.starts_with("bash: line ");
        lines.filter(is_said).collect()
    };
    let (shown, printed) = (words(shown), words(printed));
    shown.len() == printed.len()
        && shown
            .iter()
            .zip(&printed)
            .all(|(shown, printed)| fits(shown, printed))
}

fn fits(shown: &str, printed: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = parts.next().and_then(|first| printed.strip_prefix(first)) else {
        return false;
    };
    let mut is_open = false;
    for part in parts {
        is_open = true;
        match rest.find(part) {
            // The last part ends the line.
            Some(_) if part.is_empty() => {}
            Some(at) => {
                rest = &rest[at + part.len()..];
                is_open = false;
            }
            None => return false,
        }
    }
    is_open || rest.is_empty()
}

#[test]
fn what_is_alike() {
    for (shown, printed, alike) in [
        ("a  b", "a b\n", true),
        ("a … c", "a  b b  c", true),
        ("a … c", "a b d", false),
        ("a …", "a b c", true),
        ("a", "a b", false),
        ("a\nb", "a", false),
        ("cart-… are", "cart-… are", true),
    ] {
        assert_eq!(is_alike(shown, printed), alike, "{shown:?} {printed:?}");
    }
}
