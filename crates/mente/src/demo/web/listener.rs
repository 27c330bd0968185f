//! Serves a router on a socket.

use anyhow::Result;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Connections at one time; one more waits in the backlog of the port.
const CONNECTIONS_MAX: usize = 256;
/// Pause after an accept failed, as it does while file descriptors are short.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Serves until it is dropped, which ends its connections too.
pub(super) async fn serve(listener: TcpListener, router: Router) -> Result<()> {
    let mut open = JoinSet::new();
    loop {
        while open.len() >= CONNECTIONS_MAX {
            open.join_next().await;
        }
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        while open.try_join_next().is_some() {}
        // Without it an answer is only slower.
        let _ = socket.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(
                TokioIo::new(socket),
                TowerToHyperService::new(router.clone()),
            );
        // A broken connection is the other side's to notice.
        open.spawn(async { drop(connection.await) });
    }
}
