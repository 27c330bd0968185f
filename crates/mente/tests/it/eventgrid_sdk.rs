//! Microsoft's Python client for Event Grid namespaces, unmodified, against the pull API.

use std::path::{Path, PathBuf};
use std::process::Command;

use mente::client::Client;

use crate::server::Server;

#[tokio::test]
async fn the_python_client_of_event_grid_namespaces_works() {
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("keys");
    std::fs::write(&file, "sdk=a key from a file==\n").unwrap();
    let server = Server::start_with(&["--create-topics", "--keys-file", file.to_str().unwrap()]);
    let client = Client::new(&server.url())
        .unwrap()
        .with_key("a key from a file==")
        .unwrap();
    let settings = r#"{"from":"earliest","max_delivery_count":2}"#;
    let made = client
        .request("PUT", "/topics/orders/subscriptions/mail", None, settings)
        .await;
    assert_eq!(made.unwrap().status, 201);

    let root = workspace();
    let output = Command::new(python(&root))
        .arg(root.join("tests/python/eventgrid_namespaces.py"))
        .args([&server.url(), "a key from a file==", "orders", "mail"])
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && out.ends_with("ok\n"),
        "{out}{err}"
    );
}

/// The Python with the packages of `tests/python/requirements.txt`.
pub(crate) fn python(root: &Path) -> PathBuf {
    let python = std::env::var_os("MENTE_TEST_PYTHON")
        .map_or_else(|| root.join(".venv/bin/python"), PathBuf::from);
    let probe = Command::new(&python)
        .args(["-c", "import azure.eventgrid"])
        .output();
    let found = probe.is_ok_and(|output| output.status.success());
    assert!(
        found,
        "no Python with azure-eventgrid at {}: make it with `python3 -m venv .venv && .venv/bin/pip install -r tests/python/requirements.txt`, or name one in MENTE_TEST_PYTHON",
        python.display()
    );
    python
}

pub(crate) fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap()
}
