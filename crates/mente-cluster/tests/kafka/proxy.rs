//! A wire that can stop: it takes requests and passes them on only later.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    held: watch::Sender<bool>,
}

impl Proxy {
    /// Listens at a free port, in front of `target`.
    pub(crate) fn start(target: u16) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let held = watch::Sender::new(false);
        let told = held.subscribe();
        // A thread of its own: it outlives the runtime of the test that started it.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime
                .expect("a runtime")
                .block_on(accept(listener, target, told));
        });
        Self { port, held }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on no request passes.
    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    /// What was held goes on its way.
    pub(crate) fn release(&self) {
        self.held.send_replace(false);
    }
}

async fn accept(listener: std::net::TcpListener, target: u16, held: watch::Receiver<bool>) {
    listener.set_nonblocking(true).expect("a socket");
    let listener = TcpListener::from_std(listener).expect("a socket");
    while let Ok((client, _)) = listener.accept().await {
        let held = held.clone();
        tokio::spawn(async move {
            if let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await {
                pass(client, server, held).await;
            }
        });
    }
}

/// Until one side closes; the other is closed with it.
async fn pass(client: TcpStream, server: TcpStream, mut held: watch::Receiver<bool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            if held.wait_for(|held| !held).await.is_err() {
                return;
            }
            if to_server.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    };
    let answers = tokio::io::copy(&mut from_server, &mut to_client);
    tokio::select! { () = requests => {}, _ = answers => {} }
}
