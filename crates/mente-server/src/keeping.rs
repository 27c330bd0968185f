//! The loop of whatever keeps what the catalogue declares: projections, replicas, relays.

use std::time::Duration;

use tokio::sync::watch;

/// How often the catalogue is looked at for declarations made elsewhere.
const LOOK: Duration = Duration::from_millis(500);

/// Reconciles now and every so often, until `stop` holds true; a sender that is gone means the same.
pub(crate) async fn keep<F: Future<Output = ()>>(
    mut stop: watch::Receiver<bool>,
    reconcile: impl Fn() -> F,
) {
    let keeping = async {
        loop {
            reconcile().await;
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = keeping => {}
    }
}
