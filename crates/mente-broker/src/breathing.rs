//! A pause without an executor's name.

use std::future::poll_fn;
use std::task::Poll;

/// Lets others go on: what an embedded engine reads is there at once, and nobody else would.
pub(crate) async fn breathe() {
    let mut is_over = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
