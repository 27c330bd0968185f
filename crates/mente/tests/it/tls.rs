//! The HTTP door under TLS, from outside: our own client and verbs, and Python's.

use std::process::Command;

use mente::client::{Client, Error};

use crate::certificates::{Certificates, text};
use crate::eventgrid_sdk::{python, workspace};
use crate::server::{Server, command};

fn start(certificates: &Certificates, more: &[&str]) -> Server {
    let (cert, key) = certificates.sign(&["localhost", "127.0.0.1"]);
    let tls = ["--tls-cert", text(&cert), "--tls-key", text(&key)];
    Server::start_with(&[&["--create-topics"], &tls[..], more].concat())
}

fn port(server: &Server) -> &str {
    server.address.rsplit(':').next().unwrap()
}

#[tokio::test]
async fn our_own_client_speaks_it_and_believes_only_whom_it_was_told() {
    let certificates = Certificates::new();
    let server = start(&certificates, &[]);
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{}", port(&server));
        let client = Client::trusting(&url, &certificates.authority()).unwrap();
        // The second goes over the connection of the first.
        for _ in 0..2 {
            let answer = client.request("GET", "/readyz", None, "").await.unwrap();
            assert_eq!((answer.status, answer.text()), (200, "ok\n".to_owned()));
        }
    }
    let url = format!("https://{}", server.address);
    let strangers = Certificates::new();
    for client in [
        Client::new(&url).unwrap(),
        Client::trusting(&url, &strangers.authority()).unwrap(),
    ] {
        match client.request("GET", "/readyz", None, "").await {
            Err(Error::Tls { reason, .. }) => assert!(reason.contains("not trusted"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn plain_http_is_told_where_it_is() {
    let certificates = Certificates::new();
    let server = start(&certificates, &[]);
    let answer = server.call("GET", "/readyz", "").await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("https://"), "{}", answer.text());
    let answer = server.call("PUT", "/topics/t", "{}").await;
    assert_eq!(answer.status, 400, "nothing is done for it");
}

#[test]
fn verbs_take_an_https_server() {
    let certificates = Certificates::new();
    let server = start(&certificates, &[]);
    let url = format!("https://localhost:{}", port(&server));
    let run = |more: &[&str]| {
        let connection = ["--server", url.as_str()];
        let output = command("topic")
            .arg("create")
            .arg("orders")
            .args(connection)
            .args(more)
            .output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = run(&[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("not trusted") && said.contains("--ca"),
        "{said}"
    );
    let authority = certificates.authority();
    let (code, said) = run(&["--ca", text(&authority)]);
    assert_eq!(code, Some(0), "{said}");
    let output = command("pub")
        .args(["orders", "{}", "--server", &url])
        .env("MENTE_CA", &authority)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_wrong_files_are_said_before_anything_is_made() {
    let certificates = Certificates::new();
    let (cert, _) = certificates.sign(&["a.example"]);
    let (_, key) = certificates.sign(&["b.example"]);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    for (flags, words) in [
        (vec!["--tls-cert", text(&cert)], "--tls-key"),
        (
            vec!["--tls-cert", text(&cert), "--tls-key", text(&key)],
            "does not belong",
        ),
        (
            vec!["--tls-cert", "/nowhere", "--tls-key", text(&key)],
            "cannot read",
        ),
    ] {
        for verb in ["server", "dev"] {
            let output = command(verb)
                .args(["--http", "127.0.0.1:0", "--data-dir"])
                .arg(&data)
                .args(&flags)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(words), "{words}: {said}");
        }
    }
    assert!(!data.exists());
}

/// Beyond loopback: TLS or a word for plain HTTP, and keys or a word for none.
#[test]
fn what_others_reach_needs_tls_and_keys_or_words() {
    let certificates = Certificates::new();
    let (cert, key) = certificates.sign(&["localhost"]);
    let directory = tempfile::tempdir().unwrap();
    // A file in its place: a server that passes the checks ends there, before it listens.
    let data = directory.path().join("data");
    std::fs::write(&data, "").unwrap();
    let keys = directory.path().join("keys");
    std::fs::write(&keys, "shop=sesame\n").unwrap();
    let tls = ["--tls-cert", text(&cert), "--tls-key", text(&key)];
    let with_keys = ["--keys-file", text(&keys)];
    let plain = ["--insecure-http"];
    let open = ["--insecure-no-keys"];
    for (flags, refused_for) in [
        (vec![], Some("--insecure-http")),
        (with_keys.to_vec(), Some("--insecure-http")),
        (plain.to_vec(), Some("--insecure-no-keys")),
        (tls.to_vec(), Some("--insecure-no-keys")),
        ([&tls[..], &plain].concat(), Some("cannot be used with")),
        ([&tls[..], &with_keys].concat(), None),
        ([&tls[..], &open].concat(), None),
        ([&plain[..], &with_keys].concat(), None),
        ([&plain[..], &open].concat(), None),
    ] {
        let output = command("server")
            .args(["--http", "0.0.0.0:0", "--data-dir"])
            .arg(&data)
            .args(&flags)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let code = if refused_for.is_some() { 2 } else { 1 };
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {said}");
        let words = refused_for.unwrap_or("data");
        assert!(said.contains(words), "{flags:?}: {said}");
    }
}

/// One server posts to the other, which takes a webhook's post for what it is: an event.
#[tokio::test]
async fn a_webhook_leads_from_one_server_to_another() {
    let certificates = Certificates::new();
    let inbox = start(&certificates, &[]);
    let authority = certificates.authority();
    let allowed = "--allow-private-webhooks";
    let flags = ["--create-topics", allowed, "--webhook-ca", text(&authority)];
    let outbox = Server::start_with(&flags);
    let url = format!("https://localhost:{}/topics/inbox/events", port(&inbox));
    let hook = serde_json::json!({"push": {"url": url, "timeout_ms": 30_000}}).to_string();
    let hook_path = "/topics/orders/subscriptions/hook";
    outbox.ok("PUT", hook_path, &hook).await;
    outbox.publish("orders", "1", "17").await;
    let url = format!("https://localhost:{}", port(&inbox));
    let client = Client::trusting(&url, &authority).unwrap();
    let began = std::time::Instant::now();
    let answer = loop {
        let path = "/topics/inbox/events?wait_ms=1000";
        let answer = client.request("GET", path, None, "").await.unwrap();
        if answer.status == 200 && answer.text() != "[]" {
            break crate::server::parsed(&answer);
        }
        assert!(began.elapsed() < crate::server::SOON, "{}", answer.text());
    };
    assert_eq!(crate::server::ids(&answer), ["1"]);
}

#[tokio::test]
async fn the_event_grid_sdk_speaks_it() {
    let certificates = Certificates::new();
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    std::fs::write(&keys, "sdk=a key from a file==\n").unwrap();
    let server = start(&certificates, &["--keys-file", text(&keys)]);
    let url = format!("https://localhost:{}", port(&server));
    let client = Client::trusting(&url, &certificates.authority()).unwrap();
    let client = client.with_key("a key from a file==").unwrap();
    let settings = r#"{"from":"earliest","max_delivery_count":2}"#;
    for (path, body) in [
        ("/topics/orders", ""),
        ("/topics/orders/subscriptions/mail", settings),
    ] {
        let made = client.request("PUT", path, None, body).await.unwrap();
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let root = workspace();
    let output = Command::new(python(&root))
        .arg(root.join("tests/python/eventgrid_namespaces.py"))
        .args([&url, "a key from a file==", "orders", "mail"])
        .env("REQUESTS_CA_BUNDLE", certificates.authority())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && out.ends_with("ok\n"),
        "{out}{err}"
    );
}

#[test]
fn openssl_agrees_on_versions_and_protocol() {
    let certificates = Certificates::new();
    let server = start(&certificates, &[]);
    let root = workspace();
    let output = Command::new(python(&root))
        .arg(root.join("tests/python/tls_door.py"))
        .arg(port(&server))
        .arg(certificates.authority())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && out.ends_with("ok\n"),
        "{out}{err}"
    );
}
