//! Who wrote what, and that nobody wrote it anew.

use serde_json::{Value, json};

use crate::server::Server;
use crate::verbs::{mente, ok};

fn append(server: &Server, number: usize) {
    let id = format!("e{number}");
    let words = ["stream", "append", "order-1", "{}", "--type", "T", "--id"];
    ok(server, &[&words[..], &[&id]].concat());
}

#[tokio::test]
async fn a_head_that_was_noted_is_held_against_what_is_there() {
    let server = Server::start();
    assert_eq!(server.call("GET", "/store/head", "").await.status, 404);
    (0..5).for_each(|number| append(&server, number));
    let noted = ok(&server, &["stream", "head"]).trim().to_owned();
    assert!(noted.starts_with("4:") && noted.len() == 45, "{noted}");
    let server = server.crash_and_restart();
    (5..9).for_each(|number| append(&server, number));
    let said = ok(&server, &["verify", "--noted", &noted]);
    assert!(said.contains("store"), "{said}");
    let head = server.ok("GET", "/store/head", "").await;
    assert_eq!(head["position"], 8);
    // The hash of another position, of a position that is not there, and no head at all.
    let hash = &noted[2..];
    for (other, code) in [
        (format!("3:{hash}"), 1),
        (format!("400:{hash}"), 1),
        (format!("{}:{hash}", u64::MAX), 1),
        ("4:abc".to_owned(), 2),
        ("four".to_owned(), 2),
    ] {
        let (is, out, err) = mente(&server, &["verify", "--noted", &other]);
        assert_eq!(is, code, "{other}: {out}{err}");
        assert!(code == 2 || out.contains("DIFFERENT"), "{out}");
    }
}

#[tokio::test]
async fn who_showed_a_key_is_named_with_the_event() {
    let server = Server::start();
    append(&server, 0);
    let events = server.ok("GET", "/streams/order-1", "").await;
    assert_eq!(
        events["events"][0].get("actor"),
        None,
        "nobody showed a key"
    );
    // What a client says of itself is its own attribute and no proof of anything.
    let event =
        json!({"specversion": "1.0", "id": "e1", "source": "/t", "type": "T", "actor": "somebody"});
    let client = mente::client::Client::new(&server.url()).unwrap();
    let content_type = Some("application/cloudevents+json");
    let answer = client.request("POST", "/streams/order-1", content_type, event.to_string());
    assert_eq!(answer.await.unwrap().status, 200);
    let events = server.ok("GET", "/streams/order-1?from=1", "").await;
    let told: &Value = &events["events"][0];
    assert_eq!(
        (told.get("actor"), &told["event"]["actor"]),
        (None, &json!("somebody"))
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    std::fs::write(&file, "billing=sesame\n").unwrap();
    let server = Server::start_with(&["--keys-file", file.to_str().unwrap()]);
    let client = mente::client::Client::new(&server.url()).unwrap();
    let client = client.with_key("sesame").unwrap();
    let call = async |method: &str, path: &str, body: String| {
        let content_type = Some("application/cloudevents+json");
        let answer = client.request(method, path, content_type, body).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice::<Value>(&answer.body).unwrap()
    };
    call("POST", "/streams/order-1", event.to_string()).await;
    for path in ["/streams/order-1", "/store/events"] {
        let told = call("GET", path, String::new()).await;
        assert_eq!(told["events"][0]["actor"], "billing", "{told}");
    }
}
