//! Readers that never read, and long polls that are dropped.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::attack::{Attacked, until};
use crate::connections::allow_files;

/// Events of a mebibyte together: more than any socket holds.
async fn fill(attacked: &Attacked, mib: usize) {
    let data = format!("\"{}\"", "x".repeat(900 << 10));
    for id in 0..mib {
        attacked
            .server
            .publish("alive", &format!("large {id}"), &data)
            .await;
    }
}

#[tokio::test]
async fn readers_that_never_read_cost_a_bounded_piece_each() {
    let attacked = Attacked::start(&[]).await;
    fill(&attacked, 64).await;
    let begun = attacked.resident_mib();
    let readers: Vec<TcpStream> = (0..60)
        .map(|number| {
            let accept = [
                "application/x-ndjson",
                "text/event-stream",
                "application/json",
            ][number % 3];
            let mut socket = attacked.connect();
            let line = "GET /topics/alive/events?from=earliest&limit=5000";
            let follow = if number % 3 < 2 { "&follow=true" } else { "" };
            let request = format!("{line}{follow} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\n\r\n");
            socket.write_all(request.as_bytes()).unwrap();
            // The first bytes: it is under way.
            let mut some = [0; 16];
            socket.read_exact(&mut some).unwrap();
            socket
        })
        .collect();
    for id in 0..50 {
        attacked
            .server
            .publish("alive", &format!("after {id}"), "1")
            .await;
    }
    let each_kib = (attacked.resident_mib().saturating_sub(begun) << 10) / readers.len() as u64;
    println!("{each_kib} KiB for each reader");
    // One read of a log and its text, whatever else there is to be read.
    assert!(each_kib <= 3 << 10, "{each_kib} KiB for each reader");
    drop(readers);
    attacked.survives(250).await;
}

/// Many requests on one connection, none of whose answers are read.
#[tokio::test]
async fn a_pipeline_whose_answers_are_not_read_is_not_answered_ahead() {
    let attacked = Attacked::start(&[]).await;
    fill(&attacked, 8).await;
    let request = b"GET /topics/alive/events?limit=5000 HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1_000);
    let mut sockets: Vec<TcpStream> = (0..20).map(|_| attacked.connect()).collect();
    for socket in &mut sockets {
        socket.set_nonblocking(true).unwrap();
        let _ = socket.write(&request);
    }
    for id in 0..50 {
        attacked
            .server
            .publish("alive", &format!("after {id}"), "1")
            .await;
    }
    attacked.survives(150).await;
}

#[tokio::test]
async fn thousands_of_dropped_long_polls_hold_nothing_up() {
    allow_files();
    let attacked = Attacked::start(&[]).await;
    let server = &attacked.server;
    server.ok("PUT", "/topics/polled", "").await;
    server
        .ok(
            "PUT",
            "/topics/polled/subscriptions/s",
            r#"{"max_delivery_count":1000}"#,
        )
        .await;
    let files = attacked.open_files();
    let polls = [
        "POST /topics/polled/eventsubscriptions/s:receive?maxEvents=100&maxWaitTime=120",
        "GET /topics/polled/events?from=latest&wait_ms=120000",
        "GET /topics/polled/events?from=latest&follow=true",
    ];
    for _ in 0..2 {
        let sockets: Vec<TcpStream> = (0..3_000)
            .map(|number| {
                let mut socket = attacked.connect();
                let request = format!(
                    "{} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
                    polls[number % 3]
                );
                socket.write_all(request.as_bytes()).unwrap();
                socket
            })
            .collect();
        // They are waiting, seen by their sockets; some files of the server's come and go meanwhile.
        until(async || attacked.open_files() + 10 >= files + sockets.len()).await;
        server.publish("alive", "meanwhile", "1").await;
        drop(sockets);
        until(async || attacked.open_files() <= files + 2).await;
    }
    // Nobody is left who could take the event before this one does.
    server.publish("polled", "one", "1").await;
    let path = "/topics/polled/eventsubscriptions/s:receive?maxWaitTime=20";
    let received = server.ok("POST", path, "").await;
    assert_eq!(received["value"][0]["event"]["id"], "one");
    assert_eq!(received["value"][0]["brokerProperties"]["deliveryCount"], 1);
    attacked.survives(150).await;
}
