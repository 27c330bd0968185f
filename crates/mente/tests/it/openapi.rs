//! The OpenAPI document against the server that serves it, with packages of its own world.

use std::process::Command;

use crate::eventgrid_sdk::{python, workspace};
use crate::server::Server;

#[test]
fn what_is_sent_and_answered_is_what_the_document_says() {
    let server = Server::start_with(&["--allow-private-webhooks"]);
    let root = workspace();
    let output = Command::new(python(&root))
        .arg(root.join("tests/python/openapi_document.py"))
        .arg(server.url())
        // What a backup is answered with.
        .arg(if crate::engine::HAS_BACKUPS {
            "200"
        } else {
            "501"
        })
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    let is_ok = output.status.success() && out.ends_with("operations ok\n");
    assert!(is_ok, "{out}{err}");
}
