//! Which nodes there are, and how shards are spread over them: a consumer group of Kafka, of
//! the classic protocol, with a protocol of our own in it.
//!
//! ```text
//!   ClusterEngine::join --> member (a task) --> talk --> coordinator of the group
//!                             |    ^   form, assign: what the leader decides
//!     Membership::next <--- hold --+   (news, and until when all is ours)
//! ```
//! Every node is a static member: killed and started again within the session it gets back
//! what it had, and the others notice nothing but its new address. Shards move one by one
//! and in two rounds (see `assign.rs`), so nodes decide on while the group shares anew.
//!
//! All of this is about peace, not about safety: it takes a node out of the way before
//! another takes over, as far as clocks and answers can be trusted. That a late one writes
//! nothing is for the fences.

mod assign;
mod form;
mod hold;
mod member;
mod talk;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use self::hold::Shared;
use self::member::Member;
use self::talk::Talk;
use crate::{ClusterEngine, limits};

/// How a node takes part.
#[derive(Clone, PartialEq, Eq)]
pub struct Seat {
    /// The node's name, the same after each start. No two processes at a time have the same:
    /// the later one throws the earlier one out.
    pub instance: String,
    /// Where other nodes reach it, for example `http://127.0.0.1:8480`.
    pub address: String,
    /// What others show to it. It stands in the group's metadata: whoever may describe the
    /// group on the cluster can read it.
    pub secret: String,
    /// How many shards there are; the same number at all nodes.
    pub shards: u32,
}

/// A node as the group knows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub instance: String,
    /// Where to reach it.
    pub address: String,
    /// What to show to it.
    pub secret: String,
    /// What it owns.
    pub shards: BTreeSet<u32>,
}

/// Who owns what. A shard that is on its way from one node to another is owned by none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The group's generation; it rises with every assignment.
    pub generation: i32,
    /// All nodes, each once.
    pub nodes: Vec<Node>,
}

/// What became of a membership.
#[derive(Debug)]
pub enum Change {
    /// The whole picture now; what is ours stands in it under our instance. It may come
    /// again without a difference.
    Assigned(Arc<Assignment>),
    /// Stop deciding for these, then send on `done`: after that others get them. They get
    /// them after a few seconds in any case. The assignment without them comes next.
    Revoked {
        /// What is ours no more.
        shards: BTreeSet<u32>,
        /// To be sent on, not merely dropped, once nothing is decided for them.
        done: oneshot::Sender<()>,
    },
    /// Nothing is ours any more: the group went on without us, or it could not be reached
    /// for so long that it may have. It is joined again.
    Lost,
}

/// A place in the group. Dropped, it is as if the node had died: others take over only after
/// the session.
#[derive(Debug)]
pub struct Membership {
    hold: Hold,
    leave: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Tells until when all is ours. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Hold(Arc<Shared>);

impl ClusterEngine {
    /// Joins the nodes that share shards through this cluster and prefix, and stays until the
    /// membership is dropped, whatever happens to the cluster meanwhile.
    pub fn join(&self, seat: Seat) -> Membership {
        let (cluster, runtime) = self.parts();
        let shared = Arc::new(Shared::default());
        let (leave, leaving) = oneshot::channel();
        let incarnation = Uuid::new_v4().simple().to_string();
        let member = Member::new(Talk::new(cluster), Arc::clone(&shared), seat, incarnation);
        let ended = End(Arc::clone(&shared));
        let task = runtime.spawn(async move {
            // Also when it is aborted, or panics.
            let _ended = ended;
            member.run(leaving).await;
        });
        Membership {
            hold: Hold(shared),
            leave: Some(leave),
            task,
        }
    }
}

impl Membership {
    /// The next change, in their order; `None` once there is no task any more. What nobody
    /// has asked for is replaced by what came later. To be asked again means that the last
    /// change has been acted on. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Change> {
        self.hold.0.next().await
    }

    /// Until when what was assigned is certainly still ours, see [`Hold::until`].
    pub fn held_until(&self) -> Option<Instant> {
        self.hold.until()
    }

    /// The same question for whoever has no hand on the membership.
    pub fn hold(&self) -> Hold {
        self.hold.clone()
    }

    /// Leaves at once, so that others take over without waiting for the session. Nothing is
    /// to be decided any more when this is called.
    pub async fn leave(mut self) {
        self.hold.0.end();
        if let Some(leave) = self.leave.take() {
            let _ = leave.send(());
        }
        let _ = tokio::time::timeout(limits::LEAVE, &mut self.task).await;
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.hold.0.end();
        self.task.abort();
    }
}

impl Hold {
    /// Until when all that was assigned is certainly still ours: the group's answers prove it
    /// for a session from when they were asked for. `None`: nothing is certain. That is also
    /// so after [`Change::Lost`] until [`Membership::next`] is called again, so that a new
    /// proof is not taken for one of what was lost.
    pub fn until(&self) -> Option<Instant> {
        self.0.until()
    }
}

/// Tells that there is no task any more.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("instance", &self.instance)
            .field("address", &self.address)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("instance", &self.instance)
            .field("address", &self.address)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}
