//! What the TLS door does with those who do not shake hands.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mente_broker::{Broker, Options};
use mente_engine::memory::MemoryEngine;
use mente_engine::{Clock, Now, Timestamp};
use mente_server::http::{self, Http};
use mente_server::tls::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn now(&self) -> Now {
        let monotone = self.0.elapsed();
        let wall = Timestamp(monotone.as_millis() as i64);
        Now { monotone, wall }
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep_until(self.0 + at))
    }
}

/// A door under TLS, and what would stop it.
async fn door() -> (std::net::SocketAddr, watch::Sender<bool>) {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (directory.path().join("c"), directory.path().join("k"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let clock = Arc::new(TestClock(tokio::time::Instant::now()));
    let (broker, tasks) = Broker::open(Arc::new(MemoryEngine::new(3)), clock, Options::default())
        .await
        .unwrap();
    tasks.into_iter().for_each(|task| drop(tokio::spawn(task)));
    let options = http::Options {
        tls: Some(Identity::read(&cert, &key).unwrap()),
        ..http::Options::default()
    };
    let door = Http::bind("127.0.0.1:0".parse().unwrap(), broker, options).await;
    let door = door.unwrap();
    let address = door.address().unwrap();
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(door.run(stopping));
    (address, stop)
}

/// Time runs as soon as everybody waits, so a door that waits for ever hangs this test.
#[tokio::test(start_paused = true)]
async fn a_handshake_that_stalls_ends() {
    let (address, _stop) = door().await;
    for begun in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(begun).await.unwrap();
        let mut rest = Vec::new();
        // Closed, or reset since what was sent is left unread; either way it is over.
        let _ = socket.read_to_end(&mut rest).await;
        assert_eq!(rest, b"");
    }
}

#[tokio::test]
async fn what_is_neither_tls_nor_http_is_closed() {
    let (address, _stop) = door().await;
    for noise in [
        &b"\x00\x00\x00\x00\x00\x00\x00\x00"[..],
        b"\xff\xff\xff\xff\xff\xff",
    ] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(noise).await.unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        // At most an alert.
        assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    }
}
