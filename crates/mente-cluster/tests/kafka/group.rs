//! Nodes that share shards through a group of a real Kafka: who has what at every moment, and
//! how soon after a node came, went or fell silent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mente_cluster::{Assignment, Change, ClusterEngine, Hold, Membership, Options, Seat};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::fence::WIRE;
use crate::{broker, run_name};

const SHARDS: u32 = 64;
/// For what is to be soon, on a machine that runs other tests as well.
const SOON: Duration = Duration::from_secs(10);

/// Who has what, as the nodes themselves were told.
#[derive(Debug, Default)]
struct Board {
    held: BTreeMap<u32, String>,
    /// What each node was told to let go, and how often that all is lost.
    let_go: BTreeMap<String, usize>,
    lost: BTreeMap<String, usize>,
    seen: BTreeMap<String, Arc<Assignment>>,
    /// Shards that two held at one time.
    broken: Vec<String>,
}

type Shown = Arc<Mutex<Board>>;

impl Board {
    fn assigned(&mut self, node: &str, assignment: Arc<Assignment>) {
        let ours = assignment.nodes.iter().find(|n| n.instance == node);
        for shard in ours.map(|n| n.shards.clone()).unwrap_or_default() {
            match self.held.insert(shard, node.to_owned()) {
                Some(other) if other != node => {
                    self.broken.push(format!("{shard}: {other}, then {node}"));
                }
                _ => {}
            }
        }
        self.seen.insert(node.to_owned(), assignment);
    }

    fn gone(&mut self, node: &str) {
        self.held.retain(|_, holder| holder != node);
        self.seen.remove(node);
    }

    fn of(&self, node: &str) -> BTreeSet<u32> {
        let own = self.held.iter().filter(|(_, holder)| *holder == node);
        own.map(|(shard, _)| *shard).collect()
    }

    /// All shards are held, by these only, within one of each other; all know it.
    fn shared_by(&self, nodes: &[&str]) -> bool {
        let sizes: Vec<_> = nodes.iter().map(|node| self.of(node).len()).collect();
        let (least, most) = (sizes.iter().min(), sizes.iter().max());
        let even = most
            .zip(least)
            .is_some_and(|(most, least)| most - least <= 1);
        let told = nodes.iter().all(|node| {
            let seen = self.seen.get(*node);
            let owned = |n: &&mente_cluster::Node| n.shards == self.of(&n.instance);
            seen.is_some_and(|seen| seen.nodes.iter().filter(owned).count() == nodes.len())
        });
        sizes.iter().sum::<usize>() == SHARDS as usize && even && told
    }
}

/// A node that does as it is told, until it is killed or told to leave.
struct Running {
    name: String,
    board: Shown,
    hold: Hold,
    leave: Option<tokio::sync::oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

fn start(engine: &ClusterEngine, board: &Shown, name: &str, address: &str) -> Running {
    let membership = engine.join(Seat {
        instance: name.to_owned(),
        address: address.to_owned(),
        secret: format!("secret of {name}"),
        shards: SHARDS,
    });
    let hold = membership.hold();
    let (leave, leaving) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(follow(membership, board.clone(), name.to_owned(), leaving));
    Running {
        name: name.to_owned(),
        board: board.clone(),
        hold,
        leave: Some(leave),
        task,
    }
}

async fn follow(
    mut membership: Membership,
    board: Shown,
    name: String,
    mut leaving: tokio::sync::oneshot::Receiver<()>,
) {
    loop {
        let change = tokio::select! {
            change = membership.next() => change.expect("the task lives"),
            _ = &mut leaving => break,
        };
        match change {
            Change::Assigned(assignment) => {
                board.lock().unwrap().assigned(&name, assignment);
            }
            Change::Revoked { shards, done } => {
                // Some work that has to end first.
                sleep(Duration::from_millis(300)).await;
                {
                    let mut board = board.lock().unwrap();
                    for shard in &shards {
                        assert_eq!(board.held.remove(shard), Some(name.clone()));
                    }
                    *board.let_go.entry(name.clone()).or_default() += shards.len();
                }
                let _ = done.send(());
            }
            Change::Lost => {
                let mut board = board.lock().unwrap();
                board.gone(&name);
                *board.lost.entry(name.clone()).or_default() += 1;
            }
        }
    }
    board.lock().unwrap().gone(&name);
    membership.leave().await;
}

impl Running {
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
        self.board.lock().unwrap().gone(&self.name);
    }

    async fn leave(mut self) {
        let _ = self.leave.take().expect("not left yet").send(());
        (&mut self.task).await.expect("no panic");
    }
}

fn engine(bootstrap: &str, test: &str) -> ClusterEngine {
    let prefix = format!("{}-{test}.", run_name());
    engine_of(bootstrap, &prefix)
}

fn engine_of(bootstrap: &str, prefix: &str) -> ClusterEngine {
    let mut options = Options::new([bootstrap]);
    options.prefix = prefix.parse().expect("a plain prefix");
    ClusterEngine::new(options)
}

/// How long it took.
async fn until(board: &Shown, within: Duration, so: impl Fn(&Board) -> bool) -> Duration {
    let since = Instant::now();
    loop {
        {
            let board = board.lock().unwrap();
            assert!(board.broken.is_empty(), "held by two: {:?}", board.broken);
            if so(&board) {
                return since.elapsed();
            }
            assert!(
                since.elapsed() < within,
                "not within {within:?}: {board:#?}"
            );
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_come_share_and_nobody_gives_up_more_than_it_must() {
    let broker = broker::any();
    let engine = engine(broker.bootstrap(), "come");
    let board = Shown::default();
    let a = start(&engine, &board, "a", "http://a");
    until(&board, SOON, |board| board.shared_by(&["a"])).await;
    assert!(
        a.hold
            .until()
            .is_some_and(|until| until > Instant::now().into_std())
    );
    let _b = start(&engine, &board, "b", "http://b");
    let took = until(&board, SOON, |board| board.shared_by(&["a", "b"])).await;
    eprintln!("a second node has its share after {took:?}");
    assert_eq!(board.lock().unwrap().let_go.get("a"), Some(&32));
    let _c = start(&engine, &board, "c", "http://c");
    let took = until(&board, SOON, |board| board.shared_by(&["a", "b", "c"])).await;
    eprintln!("a third node has its share after {took:?}");
    let board = board.lock().unwrap();
    let given: usize = board.let_go.values().sum();
    assert_eq!(given, 32 + 21, "only what the newcomers got has moved");
    assert!(board.lost.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_is_replaced_and_one_that_leaves_at_once() {
    let broker = broker::any();
    let engine = engine(broker.bootstrap(), "go");
    let board = Shown::default();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| start(&engine, &board, name, name));
    until(&board, SOON, |board| board.shared_by(&["a", "b", "c", "d"])).await;
    let before = ["a", "b"].map(|node| board.lock().unwrap().of(node));
    c.kill().await;
    let took = until(&board, SOON, |board| board.shared_by(&["a", "b", "d"])).await;
    eprintln!("a killed node is replaced after {took:?}");
    let since = Instant::now();
    d.leave().await;
    eprintln!("left after {:?}", since.elapsed());
    let within = Duration::from_secs(2);
    until(&board, within, |board| board.shared_by(&["a", "b"])).await;
    eprintln!("one that leaves is replaced after {:?}", since.elapsed());
    assert!(since.elapsed() < within);
    let board = board.lock().unwrap();
    for (node, before) in ["a", "b"].iter().zip(before) {
        assert!(
            board.of(node).is_superset(&before),
            "{node} keeps what it had"
        );
    }
    assert!(board.lost.is_empty(), "{:?}", board.lost);
    drop((a, b));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_and_started_again_has_its_shards_at_once() {
    let broker = broker::any();
    let engine = engine(broker.bootstrap(), "again");
    let board = Shown::default();
    let mut running = ["a", "b", "c"]
        .map(|name| (name, start(&engine, &board, name, &format!("{name}/0"))))
        .into_iter()
        .collect::<BTreeMap<_, _>>();
    until(&board, SOON, |board| board.shared_by(&["a", "b", "c"])).await;
    // The first to come may have had all for a moment.
    let let_go = board.lock().unwrap().let_go.clone();
    // Each of them, so also the leader.
    for (round, name) in ["a", "b", "c"].into_iter().enumerate() {
        let had = board.lock().unwrap().of(name);
        running.remove(name).expect("it runs").kill().await;
        let address = format!("{name}/{}", round + 1);
        let again = start(&engine, &board, name, &address);
        running.insert(name, again);
        let within = Duration::from_secs(2);
        let took = until(&board, within, |board| board.of(name) == had).await;
        let known = |board: &Board| {
            let everyone = ["a", "b", "c"].iter();
            board.shared_by(&["a", "b", "c"])
                && everyone.map(|node| &board.seen[*node].nodes).all(|nodes| {
                    let found = nodes.iter().find(|node| node.instance == name);
                    found.is_some_and(|node| node.address == address)
                })
        };
        let told = until(&board, SOON, known).await;
        eprintln!("{name}: its shards after {took:?}, its address known {told:?} later");
        assert_eq!(board.lock().unwrap().of(name), had);
    }
    let board = board.lock().unwrap();
    assert!(
        board.let_go == let_go && board.lost.is_empty(),
        "{board:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_cut_off_knows_that_all_is_lost_and_comes_back() {
    let _wire = WIRE.lock().await;
    let broker = broker::shared();
    let prefix = format!("{}-cut.", run_name());
    let (near, far) = (
        engine_of(&broker.bootstrap, &prefix),
        engine_of(&broker.proxy.address(), &prefix),
    );
    let board = Shown::default();
    let _a = start(&near, &board, "a", "http://a");
    let b = start(&far, &board, "b", "http://b");
    until(&board, SOON, |board| board.shared_by(&["a", "b"])).await;
    broker.proxy.hold();
    let held_until = b.hold.until().expect("it holds its half");
    let told = until(&board, Duration::from_secs(8), |board| {
        board.lost.contains_key("b")
    })
    .await;
    let late = std::time::Instant::now().saturating_duration_since(held_until);
    eprintln!("told that all is lost after {told:?}, {late:?} after that was due");
    assert!(b.hold.until().is_none());
    until(&board, SOON, |board| board.shared_by(&["a"])).await;
    broker.proxy.release();
    let took = until(&board, SOON, |board| board.shared_by(&["a", "b"])).await;
    eprintln!("back after {took:?}");
    assert!(b.hold.until().is_some());
    assert_eq!(board.lock().unwrap().lost.get("a"), None);
}

/// The restart may take longer than a session; then all is lost for a while, but comes back.
#[tokio::test(flavor = "multi_thread")]
async fn the_group_outlives_a_restart_of_the_broker() {
    let broker = broker::Broker::start();
    let engine = engine(&broker.bootstrap, "restart");
    let board = Shown::default();
    let _running = ["a", "b"].map(|name| start(&engine, &board, name, name));
    until(&board, SOON, |board| board.shared_by(&["a", "b"])).await;
    tokio::task::block_in_place(|| broker.restart());
    // Longer than a session: whatever it costs is seen by then.
    sleep(Duration::from_secs(7)).await;
    until(&board, SOON, |board| board.shared_by(&["a", "b"])).await;
    let board = board.lock().unwrap();
    eprintln!("lost over the restart: {:?}", board.lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_of_one_name_throws_the_first_one_out() {
    let broker = broker::any();
    let engine = engine(broker.bootstrap(), "twice");
    let boards = [Shown::default(), Shown::default()];
    let first = start(&engine, &boards[0], "a", "http://a");
    until(&boards[0], SOON, |board| board.shared_by(&["a"])).await;
    let second = start(&engine, &boards[1], "a", "http://other");
    until(&boards[0], SOON, |board| board.lost.contains_key("a")).await;
    first.kill().await;
    until(&boards[1], SOON, |board| {
        let seen = board.seen.get("a");
        board.shared_by(&["a"]) && seen.is_some_and(|seen| seen.nodes[0].address == "http://other")
    })
    .await;
    second.leave().await;
}
