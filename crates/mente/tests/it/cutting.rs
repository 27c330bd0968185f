//! A connection to a server that is cut, by whoever holds the knife: at once, in the middle of an answer, or for
//! as long as they like.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) struct Cutting {
    pub(crate) address: String,
    state: Arc<State>,
    _task: tokio::task::JoinHandle<()>,
}

struct State {
    /// Where the server is now.
    server: Mutex<String>,
    /// Counts the cuts that were asked for; connections from before one end with it.
    cuts: watch::Sender<u64>,
    is_open: Mutex<bool>,
    /// Bytes of answers after which the next connection ends.
    left: Mutex<Option<usize>>,
    /// Connections that were ended here.
    cut: AtomicUsize,
}

impl Cutting {
    pub(crate) async fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            server: Mutex::new(server.to_owned()),
            cuts: watch::Sender::new(0),
            is_open: Mutex::new(true),
            left: Mutex::default(),
            cut: AtomicUsize::new(0),
        });
        let of = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *of.is_open.lock().unwrap() {
                    tokio::spawn(carry(client, Arc::clone(&of)));
                }
            }
        });
        Self {
            address,
            state,
            _task: task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn lead_to(&self, server: &str) {
        *self.state.server.lock().unwrap() = server.to_owned();
    }

    /// Connections that were cut so far.
    pub(crate) fn count(&self) -> usize {
        self.state.cut.load(Ordering::Relaxed)
    }

    pub(crate) fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// The next connection ends after so many bytes of answers.
    pub(crate) fn cut_after(&self, bytes: usize) {
        *self.state.left.lock().unwrap() = Some(bytes);
    }

    /// Nobody comes through until it is opened.
    pub(crate) fn close(&self) {
        *self.state.is_open.lock().unwrap() = false;
        self.cut();
    }

    pub(crate) fn open(&self) {
        *self.state.is_open.lock().unwrap() = true;
    }
}

async fn carry(mut client: TcpStream, state: Arc<State>) {
    let mut cuts = state.cuts.subscribe();
    let to = state.server.lock().unwrap().clone();
    let Ok(mut server) = TcpStream::connect(&to).await else {
        return;
    };
    let mut left = state.left.lock().unwrap().take();
    let (mut asked, mut answered) = (vec![0; 4_096], vec![0; 4_096]);
    loop {
        tokio::select! {
            _ = cuts.changed() => break,
            read = client.read(&mut asked) => match read {
                Ok(1..) => {
                    let count = read.unwrap();
                    if server.write_all(&asked[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            read = server.read(&mut answered) => match read {
                Ok(count @ 1..) => {
                    let through = left.map_or(count, |left| left.min(count));
                    if client.write_all(&answered[..through]).await.is_err() {
                        return;
                    }
                    if let Some(left) = &mut left {
                        *left -= through;
                        if *left == 0 {
                            break;
                        }
                    }
                }
                // The server ended it, or was killed.
                _ => return,
            },
        }
    }
    state.cut.fetch_add(1, Ordering::Relaxed);
    // What was let through arrives; then it ends without a word.
    tokio::time::sleep(Duration::from_millis(1)).await;
}
