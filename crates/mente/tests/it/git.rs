//! Repositories as streams, and their trees again: `mente demo git` on histories that are made to be
//! misread, with settings that are made to mislead.

use serde_json::{Value, json};

use crate::repositories::{DIFFICULT, Made};
use crate::server::{Server, command};
use crate::verbs::ok;

/// Exit code, standard output, standard error.
type Ran = (i32, String, String);

/// On a server of the demo's own.
fn alone(made: &Made, words: &[&str]) -> Ran {
    let mut flags = crate::engine::flags();
    flags.extend(words.iter().map(|&word| word.to_owned()));
    run(made, &flags)
}

/// On this server.
fn on(server: &Server, made: &Made, words: &[&str]) -> Ran {
    let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    run(
        made,
        &[&words[..], &["--server".to_owned(), server.url()]].concat(),
    )
}

fn run(made: &Made, words: &[String]) -> Ran {
    let mut demo = command("demo");
    demo.arg("git").arg(made.path()).args(words);
    // Settings and surroundings of somebody who has tried everything.
    demo.env("HOME", made.home())
        .env("GIT_DIR", "/nowhere")
        .env("GIT_EXTERNAL_DIFF", "false")
        .env("GIT_TRACE", "1");
    ran(demo)
}

fn ran(mut demo: std::process::Command) -> Ran {
    let output = demo.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output.status.code().unwrap(), out, err)
}

fn all_equal((code, out, err): &Ran, commits: usize) {
    assert_eq!(*code, 0, "{out}{err}");
    let line = format!("trees equal {commits} of {commits}");
    assert!(out.lines().any(|said| said.trim() == line), "{out}{err}");
}

/// One line that says what to do, and no panic.
fn refused((code, out, err): Ran, why: &str) {
    assert!(code != 0 && code != 101, "{code} {out}{err}");
    let last = err.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("mente: ") && last.contains(why),
        "{out}{err}"
    );
    assert!(!err.contains("panicked"), "{err}");
}

#[test]
fn every_tree_of_a_difficult_history_comes_back() {
    let made = Made::difficult("sha1");
    let ran = alone(&made, &[]);
    all_equal(&ran, DIFFICULT);
    let out = ran.1;
    let states = format!("states equal {0} of {0}", DIFFICULT.min(20));
    assert!(
        out.contains(&states) && !out.contains("NOT compared"),
        "{out}"
    );
    for verb in ["log", "state", "diff", "blame", "whatif"] {
        let command = format!("mente stream {verb} repository-");
        assert!(out.contains(&command), "{command}: {out}");
    }
    assert!(
        out.contains("mente demo git ") && out.contains("mente dev"),
        "{out}"
    );
}

#[test]
fn so_do_those_with_the_longer_ids_of_a_bare_and_of_a_shallow_repository() {
    let made = Made::difficult("sha256");
    let bare = made.cloned(&["--bare"]);
    let ran = alone(&bare, &["--stream", "repository-bare"]);
    all_equal(&ran, DIFFICULT);
    assert!(
        ran.1.contains("sha256") && ran.1.contains("repository-bare"),
        "{}",
        ran.1
    );
    let shallow = made.cloned(&["--depth", "1"]);
    let ran = alone(&shallow, &[]);
    all_equal(&ran, 1);
    assert!(ran.2.contains("shallow"), "{}", ran.2);
}

#[test]
fn a_run_goes_on_where_another_stopped_and_repeats_what_is_there() {
    let server = Server::start();
    let made = Made::difficult("sha1");
    all_equal(&on(&server, &made, &["--limit", "5"]), 5);
    // Shorter than what is there, and longer.
    all_equal(&on(&server, &made, &["--limit", "3"]), 3);
    let ran = on(&server, &made, &[]);
    all_equal(&ran, DIFFICULT);
    assert!(ran.1.contains("5 events were there"), "{}", ran.1);
    let streams = ok(&server, &["stream", "ls", "-o", "json"]);
    let ran = on(&server, &made, &[]);
    all_equal(&ran, DIFFICULT);
    assert!(!ran.1.contains("appended"), "{}", ran.1);
    assert!(
        ran.1.contains(&format!(" --server {}", server.url())),
        "{}",
        ran.1
    );
    assert_eq!(ok(&server, &["stream", "ls", "-o", "json"]), streams);

    // What is in the state is what everybody can read.
    let state = ["stream", "state", made.stream(), "--at", "0", "-o", "json"];
    let state: Value = serde_json::from_str(&ok(&server, &state)).unwrap();
    let tree = &state["state"]["tree"];
    for name in [
        "%FF%FE.bin",
        "100%25",
        "new\nline",
        "quo\"te",
        " space ",
        "\u{e4}",
    ] {
        assert!(tree[name].is_string(), "{name:?}: {tree}");
    }
    assert!(tree["run"].as_str().unwrap().starts_with("100755 "));
    assert!(tree["link"].as_str().unwrap().starts_with("120000 "));
    let submodule = format!("160000 {}", "1".repeat(40));
    assert_eq!(tree["module"], json!(submodule));
    assert_eq!(
        state["state"]["author"],
        json!("A U Thor <author@example.com>")
    );
    let first = [
        "stream",
        "read",
        made.stream(),
        "--limit",
        "1",
        "-o",
        "json",
    ];
    let first: Value = serde_json::from_str(&ok(&server, &first)).unwrap();
    assert_eq!(
        first["events"][0]["event"]["time"],
        json!("2001-09-09T01:46:40Z")
    );
}

#[test]
fn a_planted_event_is_found() {
    let server = Server::start();
    let made = Made::difficult("sha1");
    all_equal(&on(&server, &made, &["--limit", "2"]), 2);
    // The third commit as somebody else might tell it: one object id is wrong.
    let third = made.commit(2);
    let wrong = json!({"commit": third, "author": "", "message": "",
        "tree": {"dir/x": format!("100644 {}", "2".repeat(40))}});
    plant(&server, made.stream(), &third, &wrong, "1");
    let ran = on(&server, &made, &[]);
    let equal = format!("trees equal 2 of {DIFFICULT}");
    assert!(
        ran.1.contains("FIRST DIFFERENT") && ran.1.contains(&equal),
        "{}",
        ran.1
    );
    refused(ran, &format!("the first is commit {third} at revision 2"));

    // Behind the history, and a history that is another.
    let again = ["--stream", "again"];
    let ran = on(&server, &made, &again);
    all_equal(&ran, DIFFICULT);
    let last = (DIFFICULT - 1).to_string();
    plant(&server, "again", "stranger", &wrong, &last);
    let ran = on(&server, &made, &again);
    refused(
        ran,
        &format!("at revision {} holds the event \"stranger\"", DIFFICULT),
    );
    plant(&server, "other", "stranger", &wrong, "none");
    let ran = on(&server, &made, &["--stream", "other"]);
    refused(ran, "other events than this history from revision 0 on");
}

fn plant(server: &Server, stream: &str, id: &str, data: &Value, expected: &str) {
    let data = data.to_string();
    let words = ["stream", "append", stream, &data, "--type", "git.Committed"];
    ok(
        server,
        &[&words[..], &["--id", id, "--expected", expected]].concat(),
    );
}

#[test]
fn what_is_too_large_for_one_event_or_for_a_state_is_said() {
    let made = Made::large();
    let ran = alone(&made, &[]);
    all_equal(&ran, 3);
    let count = ran
        .1
        .lines()
        .find_map(|line| line.trim().strip_prefix("events"));
    let count: u32 = count.unwrap().trim().parse().unwrap();
    assert!(count > 5, "several events for one commit: {}", ran.1);
    // With the third commit the state is too large.
    assert!(ran.1.contains("states equal 2 of 3"), "{}", ran.1);
    assert!(
        ran.1.contains("states NOT compared: 1, at revisions "),
        "{}",
        ran.1
    );
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let made = Made::empty("sha1");
    refused(
        alone(&made, &[]),
        "has no commit that HEAD leads to: make one",
    );
    let nowhere = made.at("nowhere");
    refused(
        alone(&nowhere, &[]),
        "give the directory of a Git repository",
    );
    std::fs::write(nowhere.path(), "text").unwrap();
    refused(alone(&nowhere, &[]), "is no directory: give");
    refused(alone(&made.at(""), &[]), "is no Git repository");
    refused(alone(&made, &["--stream", "a b"]), "has no commit");
    refused(
        alone(&Made::odd(), &[]),
        "\"hollow/\" is an empty directory",
    );
    let mut demo = command("demo");
    demo.arg("git")
        .arg(made.path())
        .args(crate::engine::flags());
    demo.env("PATH", "");
    refused(ran(demo), "install Git");
    let made = Made::difficult("sha1");
    refused(alone(&made, &["--stream", "a b"]), "--stream: the name");
}
