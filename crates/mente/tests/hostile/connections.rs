//! Connections: too many, too slow, broken off.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use mente_engine::limits;

use crate::attack::{Attacked, answer};
use crate::server::SOON;

const PUBLISH: &str = "POST /topics/alive/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/cloudevents+json\r\n";

/// Lets this process, and the servers that it starts from now on, hold the files of every test at once.
pub(crate) fn allow_files() {
    let count = limits::HTTP_CONNECTIONS + 6_000;
    let pid = std::process::id().to_string();
    let limit = format!("--nofile={count}:");
    let done = Command::new("prlimit")
        .args(["--pid", &pid, &limit])
        .status();
    assert!(
        done.unwrap().success(),
        "this test needs {count} open files: raise the hard limit (ulimit -Hn)"
    );
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so_and_the_others_are_served() {
    allow_files();
    let attacked = Attacked::start(&[]).await;
    // The client of `attacked` has one of the seats and keeps it.
    let idle: Vec<TcpStream> = (1..limits::HTTP_CONNECTIONS)
        .map(|_| attacked.connect())
        .collect();
    let health = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    for _ in 0..100 {
        let (status, text) = attacked.say(health);
        assert_eq!(status, 503, "{text}");
        assert!(
            text.contains("connections are open") && text.contains("retry-after"),
            "{text}"
        );
    }
    attacked.server.publish("alive", "meanwhile", "1").await;
    // Whoever is turned away and says nothing holds nothing.
    let silent: Vec<TcpStream> = (0..1_000).map(|_| attacked.connect()).collect();
    attacked.server.publish("alive", "still", "1").await;
    drop((idle, silent));
    crate::attack::until(async || attacked.say(health).0 == 200).await;
    attacked.survives(200).await;
}

/// All at once, since each lasts as long as the limit: heads and bodies of a byte a second, and
/// requests that stop in the middle.
#[tokio::test]
async fn slow_and_broken_senders_are_sent_away_in_time() {
    let attacked = Attacked::start(&[]).await;
    let chunked = format!("{PUBLISH}transfer-encoding: chunked\r\n\r\n");
    let declared = format!("{PUBLISH}content-length: 4000000\r\n\r\n");
    let begun = |bytes: &str| {
        let mut socket = attacked.connect();
        socket.write_all(bytes.as_bytes()).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    };
    // More bodies than the budget has room for, were it given to what is only claimed.
    let mut bodies: Vec<_> = (0..100)
        .flat_map(|_| [begun(&declared), begun(&chunked)])
        .collect();
    let mut heads: Vec<_> = (0..100)
        .map(|_| begun("GET /livez HTTP/1.1\r\nx: "))
        .collect();
    let mut halves: Vec<_> = (0..100)
        .flat_map(|_| {
            [
                begun("GE"),
                begun("GET /livez HTTP/1.1\r\nhost: x\r\n"),
                begun(""),
            ]
        })
        .collect();
    for second in 0..limits::HTTP_SENDER_SECONDS + 3 {
        attacked
            .server
            .publish("alive", &format!("during {second}"), "1")
            .await;
        for (number, socket) in bodies.iter_mut().enumerate() {
            let drop = if number % 2 == 0 {
                &b" "[..]
            } else {
                b"1\r\n \r\n"
            };
            let _ = socket.write_all(drop);
        }
        for socket in &mut heads {
            let _ = socket.write_all(b"x");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for socket in &mut bodies {
        let (status, text) = answer(socket);
        assert_eq!(status, 408, "{text}");
        assert!(text.contains("did not arrive within"), "{text}");
    }
    for socket in heads.iter_mut().chain(&mut halves) {
        let mut rest = Vec::new();
        socket.set_read_timeout(Some(SOON)).unwrap();
        // An end or a reset; never a wait.
        if let Err(error) = socket.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    attacked.survives(60).await;
}

#[tokio::test]
async fn requests_that_break_off_leave_nothing_behind() {
    let attacked = Attacked::start(&[]).await;
    let files = attacked.open_files();
    for round in 0..2_000 {
        let mut socket = attacked.connect();
        let bytes = match round % 4 {
            0 => format!("{PUBLISH}content-length: 4000000\r\n\r\nabc"),
            1 => format!("{PUBLISH}transfer-encoding: chunked\r\n\r\nfffff\r\nabc"),
            2 => "POST /topics/alive/events HTTP/1.1\r\nhost".to_owned(),
            _ => String::new(),
        };
        socket.write_all(bytes.as_bytes()).unwrap();
    }
    crate::attack::until(async || {
        let metrics = attacked.server.call("GET", "/metrics", "").await.text();
        metrics.contains("mente_http_body_bytes 0\n") && attacked.open_files() <= files + 2
    })
    .await;
    attacked.survives(30).await;
}
