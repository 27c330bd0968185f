//! A server that reads a request and answers, nothing else: the ceiling of the client. One in a process
//! of its own also syncs before it answers: what any durable answer over HTTP takes on this machine.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::sync::Probe;

/// Serves until the process ends; answers its URL.
pub(super) async fn serve() -> Result<String> {
    listen(None).await
}

/// A process that does what one request takes at least, in the place of a server.
pub(super) struct Bare {
    /// Ends with it.
    _process: Child,
    /// Reads and answers.
    pub(super) call: String,
    /// Reads, overwrites 4 KiB, syncs and answers.
    pub(super) durable_call: String,
}

impl Bare {
    pub(super) async fn start(folder: &Path) -> Result<Self> {
        let binary = std::env::current_exe().context("this program")?;
        let mut process = Command::new(binary)
            .args(["bench", "--bare"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start the bare server")?;
        let said = process.stdout.take().context("the bare server's output")?;
        let mut urls = BufReader::new(said).lines();
        let mut url = async || {
            let line = urls.next_line().await?;
            line.context("the bare server ended")
        };
        Ok(Self {
            call: url().await?,
            durable_call: url().await?,
            _process: process,
        })
    }
}

/// What the process of [`Bare`] does, until its input ends.
pub(super) async fn be_bare(folder: &Path) -> Result<()> {
    println!("{}", listen(None).await?);
    let probe = Arc::new(Mutex::new(Probe::new(folder)?));
    println!("{}", listen(Some(probe)).await?);
    let end = || io::copy(&mut io::stdin().lock(), &mut io::sink());
    tokio::task::spawn_blocking(end).await??;
    Ok(())
}

async fn listen(probe: Option<Arc<Mutex<Probe>>>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // As the doors do: an answer does not wait for the next one.
            let _ = stream.set_nodelay(true);
            let probe = probe.clone();
            let service = hyper::service::service_fn(move |request| answer(request, probe.clone()));
            let io = TokioIo::new(stream);
            let serve = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
            tokio::spawn(async { drop(serve.await) });
        }
    });
    Ok(url)
}

async fn answer(
    request: Request<Incoming>,
    probe: Option<Arc<Mutex<Probe>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    // A body that breaks off is the client's to notice.
    let _ = request.into_body().collect().await;
    let mut response = Response::new(Full::from(&b"{\"partition\":0,\"offset\":0}"[..]));
    if let Some(probe) = probe {
        // On the executor's thread: nothing can be faster.
        let synced = probe.lock().map(|mut probe| probe.sync());
        if !matches!(synced, Ok(Ok(()))) {
            *response.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
        }
    }
    Ok(response)
}
