//! Commands: decided on the state of their stream, by a program or a webhook, each exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;

use futures::future::join_all;
use mente::client::{Client, Response};
use serde_json::{Value, json};

use crate::eventgrid_sdk::{python, workspace};
use crate::hooks::Hooks;
use crate::server::{Server, parsed};
use crate::verbs::{mente, ok};

/// Every command counts on from the state that it finds, so that a state that was not the last one shows.
const COUNTER: &str = r#"function decide(state, command) {
  if (command.data.by > 9) return { refuse: `${command.data.by} is too much` };
  if (command.data.by === 0) return;
  if (command.data.by < 0) return state.missing.field;
  const counted = { type: "Counted", tags: "count", data: { n: (state.n ?? 0) + 1, command: command.id } };
  return command.type === "CountTwice" ? [counted, { ...counted, type: "CountedAgain" }] : counted;
}
"#;

async fn counters(server: &Server) {
    let fold = json!({"Counted": [{"set": {"n": "$.data.n"}}]}).to_string();
    server.ok("PUT", "/folds/counter", &fold).await;
    let decider = json!({ "javascript": COUNTER }).to_string();
    server.ok("PUT", "/deciders/counter", &decider).await;
}

fn order(id: &str, kind: &str, by: i64) -> String {
    let event =
        json!({"specversion": "1.0", "id": id, "source": "/t", "type": kind, "data": {"by": by}});
    event.to_string()
}

async fn send(client: &Client, stream: &str, command: String) -> Option<Response> {
    let path = format!("/streams/{stream}/commands");
    let kind = Some("application/cloudevents+json");
    client.request("POST", &path, kind, command).await.ok()
}

async fn count(server: &Server, stream: &str, id: &str, by: i64) -> Response {
    let sent = send(&server.client, stream, order(id, "Count", by)).await;
    sent.expect("the server answers")
}

/// All events of the stream, with their places.
async fn events(server: &Server, stream: &str) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let path = format!("/streams/{stream}?from={}&limit=1000", all.len());
        let page = server.call("GET", &path, "").await;
        let events = parsed(&page)["events"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if events.is_empty() {
            return all;
        }
        all.extend(events);
    }
}

/// What was counted: each command once, on the state that the one before it left, where its answer said.
async fn check_counted(server: &Server, stream: &str, answered: &BTreeMap<String, Value>) {
    let events = events(server, stream).await;
    let mut commands = BTreeSet::new();
    for (at, lies) in events.iter().enumerate() {
        let event = &lies["event"];
        assert_eq!(
            event["data"]["n"],
            json!(at + 1),
            "decided on another state: {event}"
        );
        let command = event["data"]["command"].as_str().unwrap();
        assert!(
            commands.insert(command.to_owned()),
            "decided twice: {event}"
        );
        assert_eq!(event["causationid"], command);
        let told = &answered[command];
        let place = json!([{"id": event["id"], "type": "Counted", "revision": at, "position": lies["position"]}]);
        assert_eq!(told["events"], place, "of {command}");
        assert_eq!(
            (&told["revision"], &told["position"]),
            (&json!(at), &lies["position"])
        );
    }
    let sent: BTreeSet<_> = answered.keys().cloned().collect();
    assert_eq!(commands, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_contended_command_is_decided_exactly_once() {
    const CLIENTS: usize = 32;
    const COMMANDS: usize = 3_000;
    let server = Server::start();
    counters(&server).await;
    let url: Arc<str> = server.url().into();
    let clients = (0..CLIENTS).map(|number| {
        let url = Arc::clone(&url);
        tokio::spawn(async move {
            let client = Client::new(&url).unwrap();
            let mut answered = Vec::new();
            for at in (number..COMMANDS).step_by(CLIENTS) {
                let id = format!("c{at}");
                let sent = || send(&client, "counter-1", order(&id, "Count", 1));
                // Now and then two at once, as by an impatient caller.
                let answers = match at % 7 {
                    0 => Vec::from(<[_; 2]>::from(futures::join!(sent(), sent()))),
                    _ => vec![sent().await],
                };
                for answer in answers {
                    let answer = answer.unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    answered.push((id.clone(), parsed(&answer)));
                }
            }
            answered
        })
    });
    let rivals = (0..2).map(|number| tokio::spawn(count_by_hand(server.url(), number, 60)));
    let (clients, rivals) = futures::join!(join_all(clients), join_all(rivals));
    let mut told: BTreeMap<String, Value> = BTreeMap::new();
    let mut repeated = 0;
    for (id, mut answer) in clients.into_iter().flat_map(Result::unwrap) {
        repeated += usize::from(answer["repeated"] == true);
        answer["repeated"] = Value::Null;
        if let Some(before) = told.insert(id, answer.clone()) {
            assert_eq!(before, answer, "both are told the same");
        }
    }
    assert_eq!(told.len(), COMMANDS);
    assert_eq!(repeated, COMMANDS.div_ceil(7), "one of each two");
    told.extend(rivals.into_iter().flat_map(Result::unwrap));
    check_counted(&server, "counter-1", &told).await;
}

/// Counts beside the commands, by reading and appending, so that the state of a command is now and then not the
/// last one any more when it is decided.
async fn count_by_hand(url: String, number: usize, times: usize) -> Vec<(String, Value)> {
    let client = Client::new(&url).unwrap();
    let mut counted = Vec::new();
    while counted.len() < times {
        let state = client
            .request("GET", "/streams/counter-1/state", None, "")
            .await
            .unwrap();
        if state.status == 404 {
            continue;
        }
        let state = parsed(&state);
        let id = format!("by hand {number} {}", counted.len());
        let n = state["state"]["n"].as_u64().unwrap() + 1;
        let event = json!({"specversion": "1.0", "id": id, "source": "/t", "type": "Counted", "causationid": id,
            "data": {"n": n, "command": id}});
        let path = format!("/streams/counter-1?expected={}", state["revision"]);
        let kind = Some("application/cloudevents+json");
        let answer = client
            .request("POST", &path, kind, event.to_string())
            .await
            .unwrap();
        if answer.status == 409 {
            continue;
        }
        let to = parsed(&answer);
        let (revision, position) = (&to["lastRevision"], &to["lastPosition"]);
        let event =
            json!({"id": id, "type": "Counted", "revision": revision, "position": position});
        counted.push((
            id,
            json!({"events": [event], "revision": revision, "position": position}),
        ));
    }
    counted
}

/// Who is not answered sends the same command again, to a server that was killed in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_survive_a_kill() {
    let mut server = Server::start();
    counters(&server).await;
    let mut left: Vec<String> = (0..200).map(|n| format!("k{n}")).collect();
    let mut told = BTreeMap::new();
    for round in 0..5 {
        let client = Arc::new(Client::new(&server.url()).unwrap());
        let sent = left.drain(..).map(|id| {
            let client = Arc::clone(&client);
            tokio::spawn(async move {
                let answer = send(&client, "counter-1", order(&id, "Count", 1)).await;
                (id, answer.filter(|answer| answer.status == 200))
            })
        });
        let sent: Vec<_> = sent.collect();
        if round < 4 {
            tokio::time::sleep(std::time::Duration::from_millis(40 + 60 * round)).await;
            server = server.crash_and_restart();
        }
        for (id, answer) in join_all(sent).await.into_iter().map(Result::unwrap) {
            match answer {
                Some(answer) => drop(told.insert(id, parsed(&answer))),
                None => left.push(id),
            }
        }
    }
    assert_eq!(left, Vec::<String>::new());
    check_counted(&server, "counter-1", &told).await;
}

#[tokio::test]
async fn a_command_that_comes_again_is_told_what_was_decided() {
    let server = Server::start();
    counters(&server).await;
    let twice = order("c1", "CountTwice", 1);
    let first = send(&server.client, "counter-1", twice.clone())
        .await
        .unwrap();
    let first = parsed(&first);
    let kinds: Vec<_> = first["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["type"])
        .collect();
    assert_eq!(kinds, ["Counted", "CountedAgain"]);
    assert_eq!(
        (&first["revision"], &first["repeated"]),
        (&json!(1), &json!(false))
    );
    // Another decider would decide otherwise by now.
    let decider = json!({"javascript": "function decide() { return { refuse: 'closed' } }"});
    server
        .ok("PUT", "/deciders/counter", &decider.to_string())
        .await;
    let server = server.crash_and_restart();
    let again = send(&server.client, "counter-1", twice).await.unwrap();
    let mut again = parsed(&again);
    assert_eq!(again["repeated"], true);
    again["repeated"] = json!(false);
    assert_eq!(again, first);
    // Of another stream it is another command; a refusal decides nothing, and is decided anew.
    let refused = count(&server, "counter-2", "c1", 1).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert_eq!(
        parsed(&refused)["error"],
        json!({"code": "Refused", "message": "closed"})
    );
    counters(&server).await;
    let decided = parsed(&count(&server, "counter-2", "c1", 1).await);
    assert_eq!(
        (&decided["repeated"], &decided["revision"]),
        (&json!(false), &json!(0))
    );
    // Nothing to do is an answer.
    let nothing = parsed(&count(&server, "counter-2", "c2", 0).await);
    let expect = json!({"stream": "counter-2", "revision": 0, "events": [], "repeated": false});
    assert_eq!(nothing, expect);
    let nothing = parsed(&count(&server, "counter-3", "c2", 0).await);
    assert_eq!(
        (&nothing["revision"], &nothing["events"]),
        (&Value::Null, &json!([]))
    );
    let trace = server.ok("GET", "/trace/c1", "").await.to_string();
    assert!(trace.contains("CountedAgain"), "{trace}");
}

#[tokio::test]
async fn what_is_no_command_or_no_decision_appends_nothing() {
    let server = Server::start();
    let none = count(&server, "counter-1", "c1", 1).await;
    assert_eq!(none.status, 404, "{}", none.text());
    assert!(none.text().contains("decider"), "{}", none.text());
    for (declared, status) in [
        (json!({"javascript": "function decide("}), 400),
        (json!({"javascript": "function reduce() {}"}), 400),
        (
            json!({"javascript": COUNTER, "webhook": "http://127.0.0.1/"}),
            400,
        ),
        (json!({"webhook": "ftp://127.0.0.1/"}), 400),
        (json!({"webhook": "http://127.0.0.1/", "timeoutMs": 0}), 400),
        (json!({}), 400),
    ] {
        let answer = server
            .call("PUT", "/deciders/counter", &declared.to_string())
            .await;
        assert_eq!(answer.status, status, "{declared}: {}", answer.text());
    }
    counters(&server).await;
    let failed = count(&server, "counter-1", "c1", -1).await;
    assert_eq!(failed.status, 502, "{}", failed.text());
    let message = parsed(&failed)["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.contains("(line 4)") && message.contains("nothing was appended"),
        "{message}"
    );
    let path = "/streams/counter-1/commands";
    let batch = Some("application/cloudevents-batch+json");
    for several in [
        "[]".to_owned(),
        format!("[{0},{0}]", order("c1", "Count", 1)),
    ] {
        let answer = server
            .client
            .request("POST", path, batch, several)
            .await
            .unwrap();
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    for (decision, why) in [
        ("{}", "type"),
        ("{ type: 'T', id: 'mine' }", "leave them out"),
        ("{ type: 'T', correlationid: 'k' }", "leave them out"),
        ("7", "a number"),
        ("{ events: [], refuse: 'no' }", "both"),
        ("{ refuse: 7 }", "string"),
        (
            "Array.from({ length: 1001 }, () => ({ type: 'T' }))",
            "1000",
        ),
        ("{ type: 'T', data: 'x'.repeat(3e6) }", "bytes"),
        ("{ type: 'T', data: 'x'.repeat(5e6) }", "bytes"),
        ("{ type: 'T', tags: 'a, b' }", "tag"),
    ] {
        let source = format!("function decide() {{ return {decision} }}");
        let decider = json!({ "javascript": source }).to_string();
        server.ok("PUT", "/deciders/counter", &decider).await;
        let answer = count(&server, "counter-1", "c1", 1).await;
        let is_so = answer.status == 502 && answer.text().contains(why);
        assert!(is_so, "{decision}: {} {}", answer.status, answer.text());
    }
    let loops = json!({"javascript": "function decide() { for (;;); }"}).to_string();
    server.ok("PUT", "/deciders/counter", &loops).await;
    assert_eq!(count(&server, "counter-1", "c1", 1).await.status, 502);
    let answer = server.call("GET", "/streams/counter-1", "").await;
    assert_eq!(
        answer.status,
        404,
        "nothing was appended: {}",
        answer.text()
    );
}

#[tokio::test]
async fn a_webhook_decides() {
    let server = Server::start_with(&["--allow-private-webhooks"]);
    let fold = json!({"Counted": [{"set": {"n": "$.data.n"}}]}).to_string();
    server.ok("PUT", "/folds/counter", &fold).await;
    let hooks = Hooks::answering(|question| {
        let n = question["state"]["n"].as_u64().unwrap_or(0) + 1;
        match question["command"]["data"]["by"].as_i64() {
            Some(1) => (
                200,
                json!({"events": [{"type": "Counted", "data": {"n": n}}]}).to_string(),
            ),
            Some(2) => (200, json!({"refuse": "two is too much"}).to_string()),
            Some(3) => (204, String::new()),
            Some(4) => (200, "{\"events\":".to_owned()),
            Some(5) => (200, format!("\"{}\"", "x".repeat(5 << 20))),
            Some(6) => (200, String::new()),
            _ => (500, String::new()),
        }
    });
    let decider = json!({"webhook": hooks.url("decide"), "timeoutMs": 2000});
    server
        .ok("PUT", "/deciders/counter", &decider.to_string())
        .await;
    for n in 0..3 {
        let told = parsed(&count(&server, "counter-1", &format!("c{n}"), 1).await);
        assert_eq!(told["revision"], json!(n), "{told}");
    }
    for (by, status, why) in [
        (2, 422, "two is too much"),
        (3, 200, "[]"),
        (4, 502, "nothing was appended"),
        (5, 502, "bytes are taken"),
        (6, 502, "204 says so"),
        (7, 502, "500"),
    ] {
        let answer = count(&server, "counter-1", &format!("by{by}"), by).await;
        let is_so = answer.status == status && answer.text().contains(why);
        assert!(is_so, "{by}: {} {}", answer.status, answer.text());
    }
    let asked = hooks.posted_any("decide");
    let last = asked
        .iter()
        .find(|asked| asked["command"]["id"] == "c2")
        .unwrap();
    let expect = json!({"stream": "counter-1", "revision": 1, "state": {"n": 2}, "command":
        {"specversion": "1.0", "id": "c2", "source": "/t", "type": "Count", "data": {"by": 1}}});
    assert_eq!(*last, expect);
    assert_eq!(events(&server, "counter-1").await.len(), 3);
    // Again it is not asked.
    let before = asked.len();
    let again = parsed(&count(&server, "counter-1", "c1", 1).await);
    assert_eq!(again["repeated"], true);
    assert_eq!(hooks.posted_any("decide").len(), before);
}

/// What hides events changes the state, though no revision moves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_deleted_meanwhile_is_decided_on_as_deleted() {
    let server = Server::start_with(&["--allow-private-webhooks"]);
    let fold = json!({"Counted": [{"set": {"n": "$.data.n"}}]}).to_string();
    server.ok("PUT", "/folds/counter", &fold).await;
    let url = server.url();
    let hooks = Hooks::answering(move |question| {
        let n = question["state"]["n"].as_u64().unwrap_or(0) + 1;
        if question["command"]["id"] == "c2" && n == 3 {
            let mut rm = crate::server::command("stream");
            let rm = rm.args(["rm", "counter-1", "--server", &url]).status();
            assert!(rm.unwrap().success());
        }
        let counted = json!({"events": [{"type": "Counted", "data": {"n": n}}]});
        (200, counted.to_string())
    });
    let decider = json!({"webhook": hooks.url("decide"), "timeoutMs": 20_000});
    server
        .ok("PUT", "/deciders/counter", &decider.to_string())
        .await;
    for id in ["c0", "c1", "c2"] {
        let answer = count(&server, "counter-1", id, 1).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let asked = hooks.posted_any("decide");
    let asked: Vec<_> = asked
        .iter()
        .map(|asked| (&asked["revision"], &asked["state"]))
        .collect();
    let (null, none) = (&Value::Null, &json!({}));
    let expect = [
        (null, none),
        (&json!(0), &json!({"n": 1})),
        (&json!(1), &json!({"n": 2})),
        (null, none),
    ];
    assert_eq!(asked, expect);
    let state = server.ok("GET", "/streams/counter-1/state", "").await;
    assert_eq!(
        (&state["state"], &state["revision"]),
        (&json!({"n": 1}), &json!(2))
    );
    // What readers see no more is no state either, whatever hides it.
    server
        .ok(
            "PUT",
            "/streams/counter-1/metadata",
            r#"{"maxAgeSeconds": 1}"#,
        )
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(2_200)).await;
    let answer = parsed(&count(&server, "counter-1", "c3", 1).await);
    assert_eq!(
        (&answer["revision"], &answer["repeated"]),
        (&json!(3), &json!(false))
    );
    assert_eq!(hooks.posted_any("decide").last().unwrap()["state"], *none);
}

#[tokio::test]
async fn the_command_line_and_the_sdk_send_commands() {
    let server = Server::start();
    let fold = json!({"Counted": [{"set": {"n": "$.data.n"}}]}).to_string();
    server.ok("PUT", "/folds/counter", &fold).await;
    let file = server.data().join("decider.js");
    std::fs::write(&file, COUNTER).unwrap();
    ok(
        &server,
        &["decider", "set", "counter", file.to_str().unwrap()],
    );
    assert!(ok(&server, &["decider", "ls"]).contains("javascript"));
    assert!(ok(&server, &["decider", "get", "counter"]).contains("function decide"));
    let words = [
        "stream",
        "command",
        "counter-1",
        r#"{"by": 1}"#,
        "--type",
        "Count",
        "--id",
        "c1",
    ];
    let told = ok(&server, &words);
    assert!(
        told.contains("Counted") && !told.contains("decided before"),
        "{told}"
    );
    let told = ok(&server, &words);
    assert!(told.contains("decided before"), "{told}");
    let (code, _, said) = mente(
        &server,
        &[
            "stream",
            "command",
            "counter-1",
            r#"{"by": 10}"#,
            "--type",
            "Count",
        ],
    );
    assert!(
        code != 0 && said.contains("10 is too much"),
        "{code} {said}"
    );
    let root = workspace();
    let output = Command::new(python(&root))
        .arg(root.join("tests/python/commands.py"))
        .arg(server.url())
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "3 commands, 1 refused, 1 repeated\n"
    );
    ok(&server, &["decider", "rm", "counter"]);
    assert_eq!(count(&server, "counter-1", "c9", 1).await.status, 404);
}
