//! The door of Service Bus' administration, from outside: over HTTP and HTTPS on one port, with keys and without.

use mente::client::Client;
use mente_wire::servicebus::sas::sign;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::certificates::{Certificates, text};
use crate::server::Server;

const DOOR: [&str; 2] = ["--servicebus-admin", "127.0.0.1:0"];

fn address(server: &Server) -> String {
    let ports = std::fs::read_to_string(server.data().with_file_name("ports.json")).unwrap();
    let ports: Value = serde_json::from_str(&ports).unwrap();
    ports["servicebus-admin"].as_str().unwrap().to_owned()
}

/// Status and body; `headers` are whole lines.
async fn call(server: &Server, request: &str, headers: &str, body: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(address(server)).await.unwrap();
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: ns.example:5300\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    // Who is refused early hangs up before all of it is sent.
    let _ = socket.write_all(body.as_bytes()).await;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

async fn get(server: &Server, path: &str) -> (u16, String) {
    call(server, &format!("GET {path}"), "", "").await
}

async fn put(server: &Server, path: &str, description: &str) -> (u16, String) {
    let body = format!("<entry><content>{description}</content></entry>");
    call(server, &format!("PUT {path}"), "", &body).await
}

async fn change(server: &Server, path: &str, description: &str) -> (u16, String) {
    let body = format!("<entry><content>{description}</content></entry>");
    call(server, &format!("PUT {path}"), "if-match: *\r\n", &body).await
}

async fn delete(server: &Server, path: &str) -> u16 {
    call(server, &format!("DELETE {path}"), "", "").await.0
}

/// What stands in the first element of this name.
fn within<'a>(document: &'a str, element: &str) -> &'a str {
    let (_, behind) = document
        .split_once(&format!("<{element}>"))
        .unwrap_or_else(|| {
            panic!("no {element} in {document}");
        });
    behind.split_once("</").unwrap().0
}

#[tokio::test]
async fn http_and_https_come_in_at_one_port() {
    let certificates = Certificates::new();
    let (cert, key) = certificates.sign(&["localhost", "127.0.0.1"]);
    let tls = ["--tls-cert", text(&cert), "--tls-key", text(&key)];
    let server = Server::start_with(&[&DOOR[..], &tls].concat());
    let (status, body) = get(&server, "/health").await;
    assert_eq!(
        (status, body.contains("\"healthy\"")),
        (200, true),
        "{body}"
    );
    let url = format!("https://{}", address(&server));
    let client = Client::trusting(&url, &certificates.authority()).unwrap();
    let answer = client
        .request("GET", "/$namespaceinfo?api-version=2021-05", None, "")
        .await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = format!("{url}/$namespaceinfo?api-version=2021-05");
    assert_eq!(within(&answer.text(), "id"), id);
}

#[tokio::test]
async fn nobody_is_let_in_without_the_signature_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    std::fs::write(&keys, "admin=secret\n").unwrap();
    let server = Server::start_with(&[&DOOR[..], &["--keys-file", text(&keys)]].concat());
    let of = async |authorization: Option<String>| {
        let header = authorization.map(|text| format!("authorization: {text}\r\n"));
        let header = header.unwrap_or_default();
        call(&server, "GET /$namespaceinfo", &header, "").await.0
    };
    let signed =
        |audience: &str, secret: &str| Some(sign(audience, "admin", secret, 4_000_000_000));
    assert_eq!(of(None).await, 401);
    assert_eq!(of(Some("SharedAccessKey secret".into())).await, 401);
    assert_eq!(of(signed("https://ns.example:5300", "other")).await, 401);
    assert_eq!(
        of(signed("https://ns.example:5300/queue", "secret")).await,
        401
    );
    assert_eq!(of(signed("https://ns.example:5300", "secret")).await, 200);
    let over = sign("https://ns.example:5300", "admin", "secret", 1);
    assert_eq!(of(Some(over)).await, 401);
    // Whether the server is well is nobody's secret.
    assert_eq!(get(&server, "/health").await.0, 200);
}

/// A line of a request that is signed with the key of this name.
fn signed(header: &str, audience: &str, name: &str, secret: &str) -> String {
    let token = sign(audience, name, secret, 4_000_000_000);
    format!("{header}: {token}\r\n")
}

const QUEUE_WITH_KEYS: &str = "<entry><content><QueueDescription><AuthorizationRules>\
     <AuthorizationRule type=\"SharedAccessAuthorizationRule\"><Rights>\
     <AccessRights>Manage</AccessRights><AccessRights>Listen</AccessRights><AccessRights>Send</AccessRights>\
     </Rights><KeyName>own</KeyName><PrimaryKey>first</PrimaryKey><SecondaryKey>second</SecondaryKey>\
     </AuthorizationRule></AuthorizationRules></QueueDescription></content></entry>";

#[tokio::test]
async fn a_key_opens_what_its_rights_and_its_queue_are() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    std::fs::write(&keys, "admin=secret\nsender Send=secret\n").unwrap();
    let server = Server::start_with(&[&DOOR[..], &["--keys-file", text(&keys)]].concat());
    let with = async |request: &str, audience: &str, name: &str, secret: &str| {
        let header = signed("authorization", audience, name, secret);
        let body = match request.starts_with("PUT") {
            true => QUEUE_WITH_KEYS,
            false => "",
        };
        call(&server, request, &header, body).await.0
    };
    let (all, own) = ("https://h", "https://h/q");
    assert_eq!(with("PUT /q", all, "sender", "secret").await, 401);
    for queue in ["PUT /q", "PUT /q2"] {
        assert_eq!(with(queue, all, "admin", "secret").await, 201);
    }
    assert_eq!(with("GET /q", own, "sender", "secret").await, 401);
    for secret in ["first", "second"] {
        assert_eq!(with("GET /q", own, "own", secret).await, 200);
        assert_eq!(with("GET /q2", own, "own", secret).await, 401);
        assert_eq!(with("GET /q", all, "own", secret).await, 401);
        assert_eq!(
            with("GET /$Resources/queues", all, "own", secret).await,
            401
        );
    }
    assert_eq!(with("DELETE /q2", own, "own", "first").await, 401);
    assert_eq!(with("DELETE /q", own, "own", "first").await, 200);
    // Its keys went with it.
    assert_eq!(with("GET /q", own, "own", "first").await, 401);
}

#[tokio::test]
async fn who_forwards_shows_that_he_may_send_there() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    std::fs::write(
        &keys,
        "admin=secret\nsender Send=secret\nreader Listen=secret\n",
    )
    .unwrap();
    let server = Server::start_with(&[&DOOR[..], &["--keys-file", text(&keys)]].concat());
    let make = async |name: &str, queue: &str, more: &str| {
        let header = signed("authorization", "https://h", "admin", "secret");
        let body = format!(
            "<entry><content><QueueDescription>{queue}</QueueDescription></content></entry>"
        );
        call(&server, &format!("PUT /{name}"), &(header + more), &body)
            .await
            .0
    };
    assert_eq!(make("goal", "", "").await, 201);
    for (element, header) in [
        ("ForwardTo", "servicebussupplementaryauthorization"),
        (
            "ForwardDeadLetteredMessagesTo",
            "ServiceBusDlqSupplementaryAuthorization",
        ),
    ] {
        let queue = format!("<{element}>sb://h/goal</{element}>");
        let token = |audience, name| signed(header, audience, name, "secret");
        assert_eq!(make(element, &queue, "").await, 401, "{element}");
        assert_eq!(
            make(element, &queue, &token("sb://h/other", "admin")).await,
            401
        );
        assert_eq!(
            make(element, &queue, &token("sb://h/goal", "reader")).await,
            401
        );
        assert_eq!(
            make(element, &queue, &token("sb://h/goal", "sender")).await,
            201
        );
    }
    let other = signed(
        "ServiceBusDlqSupplementaryAuthorization",
        "sb://h/goal",
        "sender",
        "secret",
    );
    let queue = "<ForwardTo>sb://h/goal</ForwardTo>";
    assert_eq!(make("mistaken", queue, &other).await, 401);
}

#[tokio::test]
async fn queues_are_made_changed_and_deleted() {
    let server = Server::start_with(&[&DOOR[..], &["--create-topics"]].concat());
    let queue = "<QueueDescription><LockDuration>PT30S</LockDuration><RequiresSession>true</RequiresSession></QueueDescription>";
    let (status, made) = put(&server, "/A%2Fb?api-version=2021-05", queue).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(
        within(&made, "id"),
        "http://ns.example:5300/A/b?api-version=2021-05"
    );
    assert_eq!(within(&made, "LockDuration"), "PT30S");
    assert_eq!(within(&made, "MaxDeliveryCount"), "10");
    for path in ["/a/b", "/A/B", "/a%2fB"] {
        let (status, found) = get(&server, path).await;
        assert_eq!(
            (status, within(&found, "RequiresSession")),
            (200, "true"),
            "{path}"
        );
        assert_eq!(within(&found, "d2p1:ActiveMessageCount"), "0");
    }
    assert_eq!(put(&server, "/a/b", queue).await.0, 409);
    let other = queue.replace("PT30S", "PT1M");
    let (status, changed) = change(&server, "/a/b", &other).await;
    assert_eq!((status, within(&changed, "LockDuration")), (200, "PT1M"));
    let fixed = queue.replace("true", "false");
    assert_eq!(change(&server, "/a/b", &fixed).await.0, 400);
    assert_eq!(
        within(&get(&server, "/a/b").await.1, "RequiresSession"),
        "true"
    );
    // Asking for one makes none, also where sending to it would.
    assert_eq!(get(&server, "/other").await.0, 404);
    assert_eq!(get(&server, "/other").await.0, 404);
    assert_eq!(change(&server, "/other", queue).await.0, 404);
    let (status, wrong) = put(
        &server,
        "/c",
        "<QueueDescription><ForwardTo>sb://h/nothing</ForwardTo></QueueDescription>",
    )
    .await;
    assert_eq!(status, 400, "{wrong}");
    let forward = "<QueueDescription><ForwardTo>sb://h:1/A/B</ForwardTo></QueueDescription>";
    let (status, made) = put(&server, "/c", forward).await;
    assert_eq!(
        (status, within(&made, "ForwardTo")),
        (201, "sb://ns.example:5300/a/b")
    );
    let large = "<QueueDescription><MaxMessageSizeInKilobytes>1024</MaxMessageSizeInKilobytes></QueueDescription>";
    assert_eq!(put(&server, "/d?api-version=2017-04", large).await.0, 400);
    assert_eq!(put(&server, "/d?api-version=2021-05", large).await.0, 201);
    assert_eq!(delete(&server, "/a/B").await, 200);
    assert_eq!(delete(&server, "/a/b").await, 404);
    assert_eq!(get(&server, "/a/b").await.0, 404);
}

#[tokio::test]
async fn lists_are_told_by_pages() {
    let server = Server::start_with(&DOOR);
    for name in ["q0", "q1", "q2", "q3", "q4"] {
        assert_eq!(
            put(&server, &format!("/{name}"), "<QueueDescription/>")
                .await
                .0,
            201
        );
    }
    assert_eq!(put(&server, "/t", "<TopicDescription/>").await.0, 201);
    let mut found = Vec::new();
    let mut path = "/$Resources/queues?$skip=0&$top=2&api-version=2021-05".to_owned();
    loop {
        let (status, page) = get(&server, &path).await;
        assert_eq!(status, 200, "{page}");
        let titles = page.split("<title type=\"text\">").skip(2);
        let titles: Vec<_> = titles
            .map(|rest| rest.split('<').next().unwrap().to_owned())
            .collect();
        assert!(titles.len() <= 2, "{titles:?}");
        found.extend(titles);
        let links: Vec<_> = page.split("<link rel=\"next\" href=\"").skip(1).collect();
        let Some(next) = links.first() else { break };
        let next = next.split('"').next().unwrap().replace("&amp;", "&");
        path = next
            .strip_prefix("http://ns.example:5300")
            .unwrap()
            .to_owned();
    }
    assert_eq!(found, ["q0", "q1", "q2", "q3", "q4"]);
    let (_, topics) = get(&server, "/$resources/topics").await;
    assert!(topics.contains(">t<") && !topics.contains("q0"), "{topics}");
    assert_eq!(get(&server, "/$Resources/queues?$top=x").await.0, 400);
}

#[tokio::test]
async fn subscriptions_are_of_their_topic() {
    let server = Server::start_with(&DOOR);
    let one =
        "<SubscriptionDescription><MaxDeliveryCount>4</MaxDeliveryCount></SubscriptionDescription>";
    assert_eq!(put(&server, "/T/subscriptions/One", one).await.0, 404);
    assert_eq!(put(&server, "/T", "<TopicDescription/>").await.0, 201);
    let (status, made) = put(&server, "/T/subscriptions/One?api-version=2024-05", one).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(
        within(&made, "id"),
        "http://ns.example:5300/T/Subscriptions/One?api-version=2024-05"
    );
    assert_eq!(put(&server, "/t/Subscriptions/ONE", one).await.0, 409);
    let (status, found) = get(&server, "/t/SUBSCRIPTIONS/one").await;
    assert_eq!((status, within(&found, "MaxDeliveryCount")), (200, "4"));
    let (status, list) = get(&server, "/t/subscriptions?$skip=0&$top=100").await;
    assert_eq!(
        (status, list.matches("<entry>").count()),
        (200, 1),
        "{list}"
    );
    assert_eq!(
        within(&get(&server, "/T").await.1, "SubscriptionCount"),
        "1"
    );
    let changed = change(&server, "/t/subscriptions/one", &one.replace('4', "5")).await;
    assert_eq!(
        (changed.0, within(&changed.1, "MaxDeliveryCount")),
        (200, "5")
    );
    let (status, rules) = get(&server, "/T/Subscriptions/One/Rules").await;
    assert_eq!(
        (status, rules.contains("TrueFilter")),
        (200, true),
        "{rules}"
    );
    let ruled = "<SubscriptionDescription><DefaultRuleDescription xmlns:i=\"i\"><Filter i:type=\"FalseFilter\"/></DefaultRuleDescription></SubscriptionDescription>";
    assert_eq!(put(&server, "/T/subscriptions/two", ruled).await.0, 201);
    let (_, rule) = get(&server, "/t/Subscriptions/two/rules/$default").await;
    assert!(rule.contains("FalseFilter"), "{rule}");
    assert_eq!(within(&rule, "Name"), "$Default");
    // What is there stays as it is where it is said once more.
    assert_eq!(change(&server, "/T/subscriptions/two", ruled).await.0, 400);
    assert_eq!(delete(&server, "/T/subscriptions/one").await, 200);
    assert_eq!(get(&server, "/T/subscriptions/one").await.0, 404);
}

fn rule(filter: &str) -> String {
    format!("<RuleDescription xmlns:i=\"i\"><Filter i:type={filter}</Filter></RuleDescription>")
}

#[tokio::test]
async fn rules_are_of_what_other_doors_publish_too() {
    let server = Server::start_with(&[&DOOR[..], &["--create-topics"]].concat());
    assert_eq!(put(&server, "/t", "<TopicDescription/>").await.0, 201);
    let subscription = "/t/subscriptions/s";
    let made = put(&server, subscription, "<SubscriptionDescription/>").await;
    assert_eq!(made.0, 201, "{}", made.1);
    let sql = rule("\"SqlFilter\"><SqlExpression>level &gt; 3</SqlExpression>");
    let (status, made) = put(&server, "/t/subscriptions/s/rules/High", &sql).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(
        within(&made, "id"),
        "http://ns.example:5300/t/Subscriptions/s/Rules/High"
    );
    assert_eq!(within(&made, "SqlExpression"), "level &gt; 3");
    assert!(made.contains("i:type=\"EmptyRuleAction\""), "{made}");
    assert_eq!(
        put(&server, "/t/subscriptions/s/rules/high", &sql).await.0,
        409
    );
    assert_eq!(
        delete(&server, "/t/Subscriptions/s/Rules/$default").await,
        200
    );
    assert_eq!(
        delete(&server, "/t/Subscriptions/s/Rules/$default").await,
        404
    );
    let (status, list) = get(&server, "/t/subscriptions/s/rules?$skip=0&$top=9").await;
    assert_eq!(
        (status, list.matches("<entry>").count()),
        (200, 1),
        "{list}"
    );

    let batch: Vec<_> = (1..=5)
        .map(|level| {
            let id = level.to_string();
            serde_json::json!({"specversion":"1.0","id":id,"source":"/t","type":"test","level":level})
        })
        .collect();
    let kind = Some("application/cloudevents-batch+json");
    let body = serde_json::to_string(&batch).unwrap();
    let sent = server
        .client
        .request("POST", "/topics/t/events", kind, body);
    let sent = sent.await.unwrap();
    assert_eq!(sent.status, 200, "{}", sent.text());
    let count = async || {
        let (_, found) = get(&server, subscription).await;
        within(&found, "d2p1:ActiveMessageCount").to_owned()
    };
    assert_eq!(count().await, "2");

    // Another filter is of what comes from now on.
    let other = rule("\"FalseFilter\">");
    assert_eq!(
        put(&server, "/t/subscriptions/s/rules/low", &other).await.0,
        201
    );
    let low = rule("\"SqlFilter\"><SqlExpression>level &lt; 2</SqlExpression>");
    let (status, changed) = change(&server, "/t/subscriptions/s/rules/LOW", &low).await;
    assert_eq!(
        (status, within(&changed, "Name")),
        (200, "low"),
        "{changed}"
    );
    let body = serde_json::to_string(&batch).unwrap();
    let sent = server
        .client
        .request("POST", "/topics/t/events", kind, body);
    assert_eq!(sent.await.unwrap().status, 200);
    assert_eq!(count().await, "5");

    let correlated = rule("\"CorrelationFilter\"><Label>l</Label>");
    let path = "/t/subscriptions/s/rules/labelled";
    assert_eq!(put(&server, path, &correlated).await.0, 201);
    let topic = get(&server, "/t?api-version=2024-05").await.1;
    let counted = ["SqlFilterCount", "CorrelationFilterCount"].map(|name| within(&topic, name));
    assert_eq!(counted, ["2", "1"]);

    let broken = rule("\"SqlFilter\"><SqlExpression>level &gt;</SqlExpression>");
    assert_eq!(
        put(&server, "/t/subscriptions/s/rules/r", &broken).await.0,
        400
    );
    assert_eq!(
        change(&server, "/t/subscriptions/s/rules/r", &sql).await.0,
        404
    );
    assert_eq!(
        put(&server, "/t/subscriptions/none/rules/r", &sql).await.0,
        404
    );
    assert_eq!(get(&server, "/t/subscriptions/none/rules").await.0, 404);
}

#[tokio::test]
async fn what_means_harm_is_refused_and_others_are_served() {
    let server = Server::start_with(&DOOR);
    let bomb = "<!DOCTYPE a [<!ENTITY x \"xxxxxxxx\"><!ENTITY y \"&x;&x;\">]><entry><content>&y;</content></entry>";
    assert_eq!(call(&server, "PUT /q", "", bomb).await.0, 400);
    assert_eq!(
        call(&server, "PUT /q", "", &"<a>".repeat(10_000)).await.0,
        400
    );
    assert_eq!(
        call(&server, "PUT /q", "", &"x".repeat(300_000)).await.0,
        400
    );
    assert_eq!(put(&server, "/a~b", "<QueueDescription/>").await.0, 400);
    assert_eq!(call(&server, "POST /q", "", "").await.0, 405);
    assert_eq!(get(&server, "/$other").await.0, 404);
    for first in [&b"\x16"[..], b"AMQP\x03\x01\x00\x00", b"\x00"] {
        let mut socket = TcpStream::connect(address(&server)).await.unwrap();
        socket.write_all(first).await.unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
    }
    assert_eq!(get(&server, "/health").await.0, 200);
}
