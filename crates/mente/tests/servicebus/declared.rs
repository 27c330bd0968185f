//! Queues and topics that a server has because the emulator's file was given to it, used by Azure's client.

use std::process::Command;

use crate::certificates::text;
use crate::clients::{connection, port, python, tests};
use crate::judge;
use crate::server::Server;

#[test]
fn what_the_emulators_file_declares_is_there_for_python() {
    let file = tests().join("Config.json");
    let server = Server::start_with(&["--amqp", "127.0.0.1:0", "--topology", text(&file)]);
    let mut program = Command::new(python()[0]);
    program.arg(tests().join("python/declared.py"));
    program.env("MENTE_SERVICEBUS", connection(&port(&server, "amqp")));
    let output = judge::works(&mut program);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "declared ok\n");
}
