//! Webhooks over TLS: receivers that are who they say they are, and others.

use std::sync::atomic::{AtomicUsize, Ordering};

use mente_broker::dead_letter::{ATTEMPTS, RESULT};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto::ring, pki_types as rustls_pki_types};
use tokio_rustls::server::TlsStream;

use super::*;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    fn sign(&self, host: &str, change: fn(&mut CertificateParams)) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.distinguished_name = named(host);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let secret = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], secret);
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }

    /// The server's own authorities and this one, by a file as an operator would give it.
    fn trusted(&self) -> Trust {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        std::fs::write(&file, &self.pem).unwrap();
        Trust::system(Some(&file)).unwrap()
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handshakes: Arc<AtomicUsize>,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (socket, address) = self.listener.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(socket).await {
                self.handshakes.fetch_add(1, Ordering::Relaxed);
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A receiver at https://localhost that takes everything, and how many handshakes it ended well.
async fn receiver(acceptor: TlsAcceptor) -> (String, Seen, Arc<AtomicUsize>) {
    let (router, seen) = hook(|_, _| StatusCode::OK);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let handshakes = Arc::default();
    let listener = TlsListener {
        listener,
        acceptor,
        handshakes: Arc::clone(&handshakes),
    };
    tokio::spawn(async { axum::serve(listener, router).await });
    (format!("https://localhost:{port}/hook"), seen, handshakes)
}

fn one_worker(settings: &mut Settings) {
    settings.push.as_mut().unwrap().concurrency = 1;
}

#[tokio::test]
async fn a_receiver_with_a_good_certificate_gets_its_events_over_one_connection() {
    let authority = Authority::new("ours");
    let (url, seen, handshakes) = receiver(authority.sign("localhost", |_| {})).await;
    let options = push::Options {
        reach: Reach::Anywhere,
        trust: authority.trusted(),
    };
    let world = world_of(url, seen, options, one_worker).await;
    world.publish(&[("1", "k"), ("2", "k"), ("3", "k")]).await;
    world.drained(3).await;
    for id in ["1", "2", "3"] {
        assert_eq!(world.answers(id), [200]);
    }
    assert_eq!(handshakes.load(Ordering::Relaxed), 1);
}

/// Tried as often as the subscription says, then a dead letter that names the cause.
async fn refused(acceptor: TlsAcceptor, options: push::Options, words: &str) {
    let (url, seen, _) = receiver(acceptor).await;
    let world = world_of(url, seen, options, one_worker).await;
    world.publish(&[("1", "k")]).await;
    world.drained(1).await;
    assert!(world.answers("1").is_empty(), "nothing was posted");
    assert_eq!(world.dead().await["1"], "MaxDeliveryAttemptsExceeded");
    assert_eq!(world.dead_as(ATTEMPTS).await["1"], "4");
    let result = &world.dead_as(RESULT).await["1"];
    assert!(result.contains(words), "{words:?}: {result}");
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_retried_and_then_named_in_the_dead_letter() {
    let authority = Authority::new("ours");
    let options = |trust| push::Options {
        reach: Reach::Anywhere,
        trust,
    };
    let good = || authority.sign("localhost", |_| {});
    let elsewhere = authority.sign("hooks.example", |_| {});
    let expired = authority.sign("localhost", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    });
    let both = authority.sign("localhost", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let ours = || options(authority.trusted());
    refused(elsewhere, ours(), "the certificate is not for localhost").await;
    refused(expired, ours(), "expired").await;
    refused(both, ours(), "is that of an authority").await;
    let nobody = options(Trust::system(None).unwrap());
    refused(good(), nobody, "not trusted").await;
    let strangers = options(Authority::new("strangers").trusted());
    refused(good(), strangers, "not trusted").await;
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_not_even_greeted() {
    let authority = Authority::new("ours");
    let (url, seen, handshakes) = receiver(authority.sign("localhost", |_| {})).await;
    let options = push::Options {
        reach: Reach::Public,
        trust: authority.trusted(),
    };
    let world = world_of(url, seen, options, one_worker).await;
    world.publish(&[("1", "k")]).await;
    world.drained(1).await;
    assert_eq!(handshakes.load(Ordering::Relaxed), 0);
    let result = &world.dead_as(RESULT).await["1"];
    assert!(result.contains("not a public address"), "{result}");
}

#[tokio::test]
async fn who_does_not_speak_tls_is_told_apart() {
    let (router, seen) = hook(|_, _| StatusCode::OK);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await });
    let options = push::Options {
        reach: Reach::Anywhere,
        trust: Trust::system(None).unwrap(),
    };
    let world = world_of(url, seen, options, one_worker).await;
    world.publish(&[("1", "k")]).await;
    world.drained(1).await;
    let result = &world.dead_as(RESULT).await["1"];
    assert!(result.contains("does not answer in TLS"), "{result}");
}

/// It accepts and says nothing: the attempt ends by its own time limit, handshake included.
#[tokio::test]
async fn a_handshake_that_stalls_is_an_attempt_that_took_too_long() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/hook", listener.local_addr().unwrap());
    let options = push::Options {
        reach: Reach::Anywhere,
        trust: Trust::system(None).unwrap(),
    };
    let world = world_of(url, Seen::default(), options, one_worker).await;
    world.publish(&[("1", "k")]).await;
    world.drained(1).await;
    let result = &world.dead_as(RESULT).await["1"];
    assert!(result.contains("no answer within 300 ms"), "{result}");
    drop(listener);
}
