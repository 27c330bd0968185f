//! Messages whose data is kept in pieces beside their topic.

use futures::task::LocalSpawnExt;
use mente_broker::{Body, Pieces};
use mente_engine::{Limit, Offset, limits};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn large() -> Sending {
    Sending {
        max_message_kilobytes: 100 << 10,
        ..Sending::default()
    }
}

/// Two and a half mebibytes in whole pieces, and a half one; other ones for each seed.
fn data(seed: u8) -> Vec<u8> {
    let bytes = 0..(5 << 19) + limits::PIECE_BYTES / 2;
    bytes
        .map(|at| (at as u8) ^ (at >> 8) as u8 ^ seed)
        .collect()
}

impl World {
    pub(super) fn try_keep(&mut self, to: &EntityName, data: &[u8]) -> mente_broker::Result<Body> {
        call!(self, b => async {
            let upload = b.begin_body(&ME, to).await?;
            let (mut pieces, mut places) = (Pieces::default(), Vec::new());
            let mut full = pieces.add(data);
            full.extend(pieces.last());
            for piece in full {
                places.push(b.put_piece(&upload, piece).await?);
            }
            // Nobody guesses in a test.
            b.finish_body(&upload, &pieces, places, None, 0xabc).await
        })
    }

    pub(super) fn send_large(&mut self, to: &EntityName, id: usize, due: Option<Timestamp>) {
        let body = self.try_keep(to, &data(id as u8)).unwrap();
        let message = Message {
            body: Some(body),
            due,
            ..message(id)
        };
        call!(self, b => b.send(&ME, to, vec![message])).unwrap();
    }

    /// What a message claims, or why it cannot be had.
    fn data_of(&mut self, view: &SubscriptionName, held: &Held) -> mente_broker::Result<Vec<u8>> {
        let claim = held.claim.expect("it claims data");
        call!(self, b => async {
            let body = b.kept_body(&ME, view, &claim).await?;
            let mut data = Vec::new();
            for index in 0..body.count() {
                data.extend_from_slice(&b.piece(&body, index).await?);
            }
            Ok(data)
        })
    }

    /// Where the pieces beside a set begin and end.
    fn parts(&mut self, records: &str) -> (Offset, Offset) {
        let name = format!("default/{records}/$parts");
        let found = self.pool.run_until(self.engine.list(&name)).unwrap();
        let log = found[0].id.log(0);
        let bounds = self.pool.run_until(self.engine.bounds(log)).unwrap();
        (bounds.start, bounds.end)
    }

    /// Time goes by, and something is decided.
    fn live(&mut self, minutes: u32) {
        for _ in 0..minutes {
            self.pass(MINUTE);
            self.send([message(1_000)]);
            let out = self.take(1);
            self.end(&out, Ending::Complete);
        }
    }
}

fn end_of_path(held: &Held) -> String {
    let claim = held.claim.unwrap();
    format!("{}-{:032x}", claim.at, claim.word)
}

fn dataref(held: &Held) -> Option<String> {
    held.stored
        .event
        .extension("dataref")
        .map(Attribute::to_text)
}

#[test]
fn a_message_whose_data_cannot_be_copied_now_holds_up_nothing_behind_it() {
    let mut world = World::with_queue(2, properties(Receiving::default(), large()));
    let due = Some(Timestamp(1_000));
    world.send_large(&queue().topic, 0, due);
    world.send([Message { due, ..message(1) }]);
    let parts = world.log_of("default/work/$parts");
    world.engine.fail_reads(parts, Some(Offset(0)));
    world.pass(Duration::from_secs(2));
    let out = world.take(9);
    assert_eq!(ids(&out), [1]);
    world.end(&out, Ending::Complete);
    world.engine.fail_reads(parts, None);
    world.pass(Duration::from_secs(9));
    let out = world.take(9);
    assert_eq!(ids(&out), [0]);
    assert_eq!(world.data_of(&queue(), &out[0]), Ok(data(0)));
}

#[test]
fn the_data_of_a_message_is_there_after_a_crash_and_in_its_dead_letter() {
    let mut world = World::with_queue(1, properties(Receiving::default(), large()));
    world.send_large(&queue().topic, 7, None);
    let mut world = world.crash();
    let out = world.take(1);
    assert_eq!(world.data_of(&queue(), &out[0]), Ok(data(7)));
    let end = end_of_path(&out[0]);
    assert_eq!(dataref(&out[0]), Some(format!("/topics/work/bodies/{end}")));
    let topic = queue().topic;
    let read = call!(world, b => b.body_at(&ME, &topic, &end)).unwrap();
    assert_eq!(read.bytes(), data(7).len() as u64);
    // Where it lies can be guessed, which is not enough.
    let at = out[0].claim.unwrap().at;
    let guess = format!("{at}-{:032x}", 0xabd);
    let guessed = call!(world, b => b.body_at(&ME, &topic, &guess));
    assert_eq!(guessed.unwrap_err().kind, Kind::NotFound);
    let alone = call!(world, b => b.body_at(&ME, &topic, &at.to_string()));
    assert_eq!(alone.unwrap_err().kind, Kind::Invalid);

    let ending = Ending::DeadLetter {
        reason: "Bad".into(),
        description: String::new(),
        note: None,
    };
    world.end(&out, ending);
    let letters = world.letters_of_queue();
    let view = queue().dead_letters();
    assert_eq!(world.data_of(&view, &letters[0]), Ok(data(7)));
    assert_eq!(dataref(&letters[0]), None);
    // Of its own: no letter claims what the queue lets go.
    let (start, end) = world.parts("work/$queue/$deadletter");
    assert!(end.0 - start.0 >= 4);
}

#[test]
fn copies_that_go_on_have_data_of_their_own() {
    let mut world = World::with_queue(2, properties(Receiving::default(), large()));
    let receiving = Receiving {
        forward_to: Some(queue().topic),
        ..Receiving::default()
    };
    let from = properties(receiving, large());
    call!(world, b => b.create_queue(&ME, "source", from)).unwrap();
    let source = EntityName::new("source").unwrap();
    for id in 0..3 {
        world.send_large(&source, id, None);
    }
    world.send_large(&queue().topic, 3, Some(Timestamp(1_000)));
    world.pass(Duration::from_secs(2));
    call!(world, b => b.delete_entity(&ME, &source)).unwrap();
    let mut world = world.crash();
    let out = world.take(9);
    let mut got = ids(&out);
    got.sort_unstable();
    assert_eq!(got, [0, 1, 2, 3]);
    for held in &out {
        let id = ids(std::slice::from_ref(held))[0];
        assert_eq!(world.data_of(&queue(), held), Ok(data(id as u8)));
        let end = end_of_path(held);
        assert_eq!(dataref(held), Some(format!("/topics/work/bodies/{end}")));
    }
}

#[test]
fn pieces_go_when_their_messages_are_gone_and_not_before() {
    let mut world = World::with_queue(3, properties(Receiving::default(), large()));
    let to = queue().topic;
    for id in 0..2 {
        world.send_large(&to, id, None);
    }
    let out = world.take(2);
    world.end(&out[..1], Ending::Complete);
    world.end(&out[1..], Ending::Defer { note: None });
    world.live(60);
    // One of them is still there.
    let left = call!(world, b => b.take_deferred(&ME, &queue(), vec![2], Mode::Lock, None));
    let left = left.unwrap();
    assert_eq!(world.data_of(&queue(), &left[0]), Ok(data(1)));
    let end = world.parts("work").1;
    world.end(&left, Ending::Complete);
    world.live(60);
    assert!(world.parts("work").0 >= end, "{:?}", world.parts("work"));

    // What came meanwhile stays.
    world.send_large(&to, 5, None);
    let out = world.take(1);
    assert_eq!(world.data_of(&queue(), &out[0]), Ok(data(5)));
}

#[test]
fn pieces_of_an_upload_that_is_under_way_stay() {
    let mut world = World::with_queue(4, properties(Receiving::default(), large()));
    let to = queue().topic;
    // The looks come so that two are between the upload and its message.
    world.live(4);
    let kept = world.try_keep(&to, &data(0)).unwrap();
    world.live(9);
    let message = Message {
        body: Some(kept),
        ..message(0)
    };
    call!(world, b => b.send(&ME, &to, vec![message])).unwrap();
    let out = world.take(1);
    world.end(&out, Ending::Abandon { note: None });
    // It is there for as long as its message is.
    for _ in 0..30 {
        world.pass(MINUTE);
        let out = world.take(1);
        assert_eq!(world.data_of(&queue(), &out[0]), Ok(data(0)));
        // Something is decided, so that there are looks.
        world.send([super::message(1_000)]);
        let another = world.take(1);
        world.end(&another, Ending::Complete);
        world.end(&out, Ending::Return);
    }
}

#[test]
fn an_upload_that_takes_too_long_and_what_is_too_large_or_anothers_are_refused() {
    let mut world = World::with_queue(5, properties(Receiving::default(), large()));
    let small = plain();
    call!(world, b => b.create_queue(&ME, "small", small)).unwrap();
    let (to, small) = (queue().topic, EntityName::new("small").unwrap());
    let send = |world: &mut World, to: &EntityName, body: Body| {
        let message = Message {
            body: Some(body),
            ..message(0)
        };
        let sent = call!(world, b => b.send(&ME, to, vec![message]));
        sent.map_err(|error| error.kind)
    };
    let kept = world.try_keep(&to, &data(0)).unwrap();
    assert_eq!(send(&mut world, &small, kept.clone()), Err(Kind::TooLarge));
    let of_small = world.try_keep(&small, &data(0)).unwrap();
    assert_eq!(send(&mut world, &small, of_small), Err(Kind::TooLarge));
    assert_eq!(send(&mut world, &to, kept.clone()), Ok(()));
    world.pass(Duration::from_secs(limits::UPLOAD_SECONDS + 1));
    assert_eq!(send(&mut world, &to, kept), Err(Kind::Refused));
}

#[test]
fn a_branch_has_the_data_of_its_messages() {
    let mut world = World::with_queue(6, properties(Receiving::default(), large()));
    for id in 0..2 {
        world.send_large(&queue().topic, id, None);
    }
    let out = world.take(1);
    let ending = Ending::DeadLetter {
        reason: "Bad".into(),
        description: String::new(),
        note: None,
    };
    world.end(&out, ending);
    world.letters_of_queue();
    let name = EntityName::new("fork").unwrap();
    call!(world, b => b.fork(&ME, &name, None)).unwrap();
    let branch = call!(world, b => b.open_branch(&name)).unwrap();
    for task in branch.shards {
        let spawned = world.pool.spawner().spawn_local(async { drop(task.await) });
        spawned.unwrap();
    }
    world.broker = branch.broker;
    call!(world, b => b.ready()).unwrap();
    let out = world.take(1);
    assert_eq!(world.data_of(&queue(), &out[0]), Ok(data(1)));
    let letters = world.letters_of_queue();
    let view = queue().dead_letters();
    assert_eq!(world.data_of(&view, &letters[0]), Ok(data(0)));
    // What is sent there is there.
    world.send_large(&queue().topic, 2, None);
    let out = world.take(1);
    assert_eq!(world.data_of(&queue(), &out[0]), Ok(data(2)));
}

#[test]
fn pieces_are_no_events_of_which_a_schema_is_asked() {
    let mut world = World::with_queue(7, properties(Receiving::default(), large()));
    world.send_large(&queue().topic, 0, None);
    let kind = EntityName::new("OrderPlaced").unwrap();
    let declared = serde_json::json!({"version": 1});
    let checked = call!(world, b => b.check_schema(&ME, &kind, &declared, true)).unwrap();
    assert_eq!((checked.looked, checked.events), (1, 1));
}

/// Another node may have deleted the queue and made it anew.
#[test]
fn a_log_of_pieces_that_is_anothers_by_now_is_looked_for_again() {
    let mut world = World::with_queue(8, properties(Receiving::default(), large()));
    world.send_large(&queue().topic, 0, None);
    let out = world.take(1);
    assert_eq!(world.data_of(&queue(), &out[0]), Ok(data(0)));
    let engine = world.engine.clone();
    let mut claim = out[0].claim.unwrap();
    claim.at = world.pool.run_until(async {
        let found = engine.list("default/work/$parts").await.unwrap().remove(0);
        let read = engine.read(found.id.log(0), claim.at, Limit::default());
        let manifest = read.await.unwrap().batches.remove(0);
        engine.delete(found.id).await.unwrap();
        let set = engine.create(&found.name, 1, found.config).await.unwrap();
        let appended = engine.append(&[], vec![(set.log(0), manifest)]).await;
        appended.unwrap()[0].base
    });
    let kept = call!(world, b => b.kept_body(&ME, &queue(), &claim)).unwrap();
    assert_eq!(kept.bytes(), data(0).len() as u64);
}
