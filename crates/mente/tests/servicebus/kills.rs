//! Azure's client over the deaths of the server: nothing that was accepted is lost, and nothing that was completed
//! comes again. The program in `tests/servicebus/python/kills.py` keeps the books and judges.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clients::{connection, port, python, tests};
use crate::entities;
use crate::judge::Case;
use crate::server::Server;

const KILLS: usize = 5;
/// How long the server works between two of them.
const LIFE: Duration = Duration::from_millis(2_500);
/// Work that many kills must have left room for: less would prove nothing.
const COMPLETED_LEAST: u64 = 200;

#[tokio::test]
async fn what_python_was_told_holds_over_kills() {
    let doors = ["--amqp", "127.0.0.1:0", "--servicebus-admin", "127.0.0.1:0"];
    let mut server = Server::start_with(&doors);
    let case = Case {
        name: "kills".to_owned(),
        kinds: vec!["plain".to_owned()],
    };
    entities::make(&port(&server, "servicebus-admin"), &[case]).await;
    let amqp = port(&server, "amqp");
    // Clients look for it where it was.
    let at = server.flags.iter().position(|flag| flag == "--amqp");
    let address = at.map(|at| at + 1).expect("the flag has a value");
    server.flags[address].clone_from(&amqp);

    let mut program = Command::new(python()[0])
        .arg(tests().join("python/kills.py"))
        .arg("plain.kills")
        .env("MENTE_SERVICEBUS", connection(&amqp))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cargo xtask setup installs what is needed");
    for _ in 0..KILLS {
        tokio::time::sleep(LIFE).await;
        server = server.crash_and_restart();
    }
    tokio::time::sleep(LIFE).await;
    program
        .stdin
        .take()
        .unwrap()
        .write_all(b"enough\n")
        .unwrap();
    let output = program.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {said}", output.status);
    println!("{said}");
    // Nothing but the counts.
    let words: Vec<_> = said.trim_end().split(' ').collect();
    let ["accepted", _, "completed", completed, "unsure", _] = words[..] else {
        panic!("laws are broken:\n{said}");
    };
    let completed: u64 = completed.parse().unwrap();
    assert!(
        completed >= COMPLETED_LEAST,
        "too little was done to prove anything: {said}"
    );
}
