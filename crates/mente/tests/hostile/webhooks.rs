//! Webhooks that lead where they should not, and receivers that mean harm.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::attack::{Attacked, until};

/// Spellings of addresses that are nobody's business out there. `PORT` is a port that would
/// answer on every address of this machine.
const PRIVATE: [&str; 53] = [
    "http://127.0.0.1:PORT/",
    "http://127.0.0.1.:PORT/",
    "http://127.1:PORT/",
    "http://127.0.1:PORT/",
    "http://127.255.255.254:PORT/",
    "http://2130706433:PORT/",
    "http://0x7f000001:PORT/",
    "http://0x7f.0.0.1:PORT/",
    "http://0X7F.0X0.0X0.0X1:PORT/",
    "http://0177.0.0.1:PORT/",
    "http://017700000001:PORT/",
    "http://0177.0x0.1:PORT/",
    "http://127.0.0.1%00.example.com:PORT/",
    "http://0:PORT/",
    "http://0.0.0.0:PORT/",
    "http://00.0.0.0:PORT/",
    "http://localhost:PORT/",
    "http://LOCALHOST:PORT/",
    "http://localhost.:PORT/",
    "http://ip6-localhost:PORT/",
    "http://ip6-loopback:PORT/",
    "http://[::1]:PORT/",
    "http://[0:0:0:0:0:0:0:1]:PORT/",
    "http://[0000::0001]:PORT/",
    "http://[::]:PORT/",
    "http://[::1%lo]:PORT/",
    "http://[::1%251]:PORT/",
    "http://[fe80::1%25lo]:PORT/",
    "http://[fe80::1%lo]:PORT/",
    "http://[fe80::1]:PORT/",
    "http://[::ffff:127.0.0.1]:PORT/",
    "http://[::ffff:7f00:1]:PORT/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:PORT/",
    "http://[::127.0.0.1]:PORT/",
    "http://[64:ff9b::127.0.0.1]:PORT/",
    "http://[64:ff9b::a9fe:a9fe]:PORT/",
    "http://[64:ff9b:1:7f00:0:100:808:808]:PORT/",
    "http://[2002:7f00:1::1]:PORT/",
    "http://[2001:0:1::1]:PORT/",
    "http://[fc00::1]:PORT/",
    "http://[ff02::1]:PORT/",
    "http://[3fff::1]:PORT/",
    "http://10.0.0.1:PORT/",
    "http://169.254.169.254:PORT/latest/meta-data/",
    "http://2852039166:PORT/",
    "http://0xa9fea9fe:PORT/",
    "http://100.64.0.1:PORT/",
    "http://192.168.0.1:PORT/",
    "http://user@127.0.0.1:PORT/",
    "http://example.com@127.0.0.1:PORT/",
    "http://127.0.0.1\\@example.com:PORT/",
    "http://127.0.0.1:PORT@example.com/",
    "http://\u{2460}\u{2461}\u{2466}.0.0.1:PORT/",
];

/// Listens on every address of the machine and counts who comes.
fn anywhere() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let came = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&came);
    std::thread::spawn(move || {
        for _ in listener.incoming() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    // The very means of this test: loopback reaches it over both families.
    drop((
        TcpStream::connect(("127.0.0.1", port)).unwrap(),
        TcpStream::connect(("::1", port)).ok(),
    ));
    (port, came)
}

fn push(url: &str, attempts: u32) -> String {
    json!({"from": "earliest", "max_delivery_count": attempts, "lock_duration_ms": 10_000,
        "push": {"url": url, "timeout_ms": 2_000, "concurrency": 1, "retry": {"waits_ms": [0]}}})
    .to_string()
}

#[tokio::test]
async fn private_addresses_are_never_posted_to_in_any_spelling() {
    let attacked = Attacked::start(&[]).await;
    let server = &attacked.server;
    let (port, came) = anywhere();
    until(async || came.load(Ordering::Relaxed) > 0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = came.load(Ordering::Relaxed);
    server.ok("PUT", "/topics/hooks", "").await;
    server.publish("hooks", "secret", "1").await;
    let mut kept = Vec::new();
    for (number, url) in PRIVATE.iter().enumerate() {
        let url = url.replace("PORT", &port.to_string());
        let path = format!("/topics/hooks/subscriptions/s{number}");
        let put = server.call("PUT", &path, &push(&url, 1)).await;
        match put.status {
            201 => kept.push((path, url)),
            400 => assert!(put.text().contains("URL"), "{url}: {}", put.text()),
            other => panic!("{url}: {other} {}", put.text()),
        }
    }
    assert!(kept.len() > 30, "they reach the sender: {}", kept.len());
    for (path, url) in kept {
        until(async || {
            let counts = server.ok("GET", &path, "").await["counts"].clone();
            assert_eq!(counts["completed"], 0, "{url}: it was delivered");
            counts["dead"] == 1 && counts["dying"] == 0
        })
        .await;
        let dead = server.ok("GET", &format!("{path}/deadletters"), "").await;
        let text = dead.to_string();
        assert!(
            text.contains("is not a public address") || text.contains("cannot resolve"),
            "{url}: {text}"
        );
    }
    assert_eq!(came.load(Ordering::Relaxed), before, "nobody came");
    attacked.survives(30).await;
}

/// What a receiver does with a connection.
type Answer = fn(TcpStream);

/// A receiver on loopback that does `answer` with every connection, each in its own thread.
fn receiver(answer: Answer) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let came = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&came);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || answer(socket));
        }
    });
    (url, came)
}

fn read_some(socket: &mut TcpStream) {
    let mut some = [0; 64 << 10];
    let _ = socket.read(&mut some);
}

fn never(mut socket: TcpStream) {
    // Until the other side gives up.
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
}

fn gigabyte(mut socket: TcpStream) {
    read_some(&mut socket);
    let _ = socket.write_all(b"HTTP/1.1 500 No\r\ncontent-length: 1073741824\r\n\r\n");
    while socket.write_all(&[b'x'; 1 << 16]).is_ok() {}
}

fn endless_head(mut socket: TcpStream) {
    read_some(&mut socket);
    let _ = socket.write_all(b"HTTP/1.1 500 ");
    while socket.write_all(&[b'x'; 1 << 16]).is_ok() {}
}

fn endless_informing(mut socket: TcpStream) {
    read_some(&mut socket);
    while socket
        .write_all(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        .is_ok()
    {}
}

fn drip(mut socket: TcpStream) {
    read_some(&mut socket);
    for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" {
        if socket.write_all(&[*byte]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn dripping_body(mut socket: TcpStream) {
    read_some(&mut socket);
    let _ = socket.write_all(b"HTTP/1.1 500 No\r\ncontent-length: 1000\r\n\r\n");
    while socket.write_all(b"x").is_ok() {
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn garbage(mut socket: TcpStream) {
    read_some(&mut socket);
    let _ = socket.write_all(b"\x16\x03\x01\0\0 what is this\r\n\r\n");
}

fn slam(socket: TcpStream) {
    drop(socket);
}

fn good(mut socket: TcpStream) {
    loop {
        let mut some = [0; 64 << 10];
        match socket.read(&mut some) {
            Ok(1..) => {}
            _ => return,
        }
        let _ = socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
    }
}

#[tokio::test]
async fn receivers_that_mean_harm_hold_up_nobody_else() {
    let attacked = Attacked::start(&["--allow-private-webhooks"]).await;
    let server = &attacked.server;
    server.ok("PUT", "/topics/hooks", "").await;
    let harmful: [(&str, Answer); 8] = [
        ("never", never),
        ("gigabyte", gigabyte),
        ("endless-head", endless_head),
        ("endless-informing", endless_informing),
        ("drip", drip),
        ("dripping-body", dripping_body),
        ("garbage", garbage),
        ("slam", slam),
    ];
    let files = attacked.open_files();
    let mut counters = Vec::new();
    for (name, answer) in harmful {
        let (url, came) = receiver(answer);
        server
            .ok(
                "PUT",
                &format!("/topics/hooks/subscriptions/{name}"),
                &push(&url, 3),
            )
            .await;
        counters.push((name, came));
    }
    let (url, _) = receiver(good);
    server
        .ok("PUT", "/topics/hooks/subscriptions/good", &push(&url, 3))
        .await;
    for id in 0..20 {
        server.publish("hooks", &id.to_string(), "1").await;
    }
    let counts = async |name: &str| {
        server
            .ok("GET", &format!("/topics/hooks/subscriptions/{name}"), "")
            .await["counts"]
            .clone()
    };
    until(async || counts("good").await["completed"] == 20).await;
    for (name, came) in counters {
        until(async || came.load(Ordering::Relaxed) >= 3).await;
        assert_eq!(counts(name).await["completed"], 0, "{name}");
        server
            .ok("DELETE", &format!("/topics/hooks/subscriptions/{name}"), "")
            .await;
    }
    // Nothing of theirs is left open: the good one has a connection.
    until(async || attacked.open_files() <= files + 2).await;
    attacked.survives(40).await;
}

/// A redirect is an answer like any other that is no 2xx: nobody goes there.
#[tokio::test]
async fn redirects_are_not_followed() {
    let attacked = Attacked::start(&["--allow-private-webhooks"]).await;
    let server = &attacked.server;
    let (port, came) = anywhere();
    until(async || came.load(Ordering::Relaxed) > 0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = came.load(Ordering::Relaxed);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (socket, status) in listener
            .incoming()
            .flatten()
            .zip([301, 302, 303, 307, 308].iter().cycle())
        {
            let mut socket: TcpStream = socket;
            read_some(&mut socket);
            let answer = format!(
                "HTTP/1.1 {status} Elsewhere\r\nlocation: http://127.0.0.1:{port}/admin\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    server.ok("PUT", "/topics/hooks", "").await;
    let path = "/topics/hooks/subscriptions/moved";
    server.ok("PUT", path, &push(&url, 5)).await;
    server.publish("hooks", "1", "1").await;
    until(async || server.ok("GET", path, "").await["counts"]["dead"] == 1).await;
    assert_eq!(came.load(Ordering::Relaxed), before, "nobody came");
    attacked.survives(30).await;
}
