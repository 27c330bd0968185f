//! An AMQP connection between a client that sends any bytes and a door that answers everything.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mente_wire::amqp::frame::{self, PROTOCOL_HEADER_BYTES};
use mente_wire::amqp::machine::{Connection, Event, Limits, Options, Outgoing, Refused};
use mente_wire::amqp::performative::{
    Attach, Begin, Close, Detach, Disposition, End, Flow, Open, Role, Transfer,
};
use mente_wire::amqp::sasl::{Init, SaslCode};
use mente_wire::amqp::{
    Coordinator, DeliveryState, Destination, FrameKind, Outcome, Performative, Protocol, Sasl,
    Source, Symbol, Target,
};

/// Bytes of a read where all of them do not come at once.
const PIECE: usize = 7;

const LIMITS: Limits = Limits {
    frame_bytes: 4 << 10,
    sessions: 4,
    links_per_session: 8,
    links: 16,
    unsettled_per_link: 20,
    unsettled: 30,
    delivery_bytes: 8 << 10,
    part_bytes: 1 << 10,
    partial_bytes: 16 << 10,
    output_bytes: 16 << 10,
    incoming_window: 20,
    link_name_bytes: 200,
    open_within: Duration::from_secs(20),
    close_within: Duration::from_secs(5),
    idle_time_out_min: Duration::from_secs(1),
};

/// Largest delivery that is taken; those of more than a part come in parts.
const BOUND_BYTES: usize = 6 << 10;

const NOW: Duration = Duration::ZERO;

/// How much was told in one direction, and a hash of all of it in its order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    count: u64,
    hash: u64,
}

impl Told {
    fn add(&mut self, what: impl Hash) {
        let mut hasher = DefaultHasher::new();
        (self.hash, what).hash(&mut hasher);
        self.hash = hasher.finish();
        self.count += 1;
    }

    /// What is written is whole frames, which can be read.
    fn add_output(&mut self, output: &[u8]) {
        let mut output = BytesMut::from(output);
        while !output.is_empty() {
            if output.starts_with(b"AMQP") {
                self.add(&output.split_to(PROTOCOL_HEADER_BYTES)[..]);
                continue;
            }
            let frame = frame::split(&mut output, LIMITS.frame_bytes as usize);
            let frame = frame.expect("sound").expect("whole");
            self.add(&frame.body[..]);
            if !frame.body.is_empty() && frame.kind == FrameKind::Amqp {
                Performative::decode(&frame.body).expect("what is written is read");
            }
        }
    }
}

/// Wherever reads end, the same is told.
pub(super) fn conversation(input: &[u8]) {
    let told = converse(input, input.len().max(1));
    assert_eq!(
        told,
        converse(input, PIECE),
        "reads that end elsewhere are another conversation"
    );
}

/// What the door and the client are told.
fn converse(input: &[u8], piece: usize) -> [Told; 2] {
    let options = Options {
        limits: LIMITS,
        ..Options::default()
    };
    let mut machine = Connection::new(options, NOW);
    let mut buffer = BytesMut::new();
    let [mut door, mut client] = [Told::default(), Told::default()];
    for bytes in input.chunks(piece) {
        buffer.extend_from_slice(bytes);
        loop {
            let event = machine.receive(&mut buffer, NOW);
            let is_all = event.is_none() && machine.wants_bytes();
            if let Some(event) = event {
                door.add(format!("{event:?}"));
                // Commands are refused where the client was told of an end before.
                let _ = answer(&mut machine, event);
            }
            while let Some(out) = machine.poll_output(NOW) {
                client.add_output(&out);
            }
            if machine.is_finished() {
                return [door, client];
            }
            if is_all {
                break;
            }
        }
    }
    [door, client]
}

fn answer(machine: &mut Connection, event: Event) -> Result<(), Refused> {
    let accepted = Some(DeliveryState::Outcome(Outcome::Accepted));
    match event {
        Event::Authenticate { .. } | Event::Response(_) => machine.sasl_outcome(SaslCode::Ok),
        Event::Attach { link, attach } => {
            let credit = match attach.role {
                Role::Sender => 10,
                Role::Receiver => 0,
            };
            let may_send = attach.role == Role::Sender;
            machine.accept(link, *attach)?;
            if may_send {
                machine.bound(link, BOUND_BYTES)?;
            }
            machine.grant(link, credit)
        }
        Event::Credit { link, drain, .. } => {
            let outgoing = Outgoing {
                tag: Bytes::from_static(&[7; 16]),
                payload: Bytes::from_static(&[1; 700]),
                ..Outgoing::default()
            };
            while machine.send(link, outgoing.clone()).is_ok() {}
            match drain {
                true => machine.drained(link),
                false => Ok(()),
            }
        }
        Event::Delivery(delivery) => machine.settle(delivery.link, delivery.id, accepted),
        Event::TooLarge { link, id, .. } => machine.settle(link, id, accepted),
        Event::Control { link, id, .. } => machine.settle(link, id, accepted),
        Event::Disposition(disposed) => {
            let mut deliveries = disposed.deliveries.iter();
            deliveries.try_for_each(|(link, id)| machine.settle(*link, *id, accepted.clone()))
        }
        Event::Opened(_)
        | Event::Begun { .. }
        | Event::Part(_)
        | Event::Aborted { .. }
        | Event::Window { .. }
        | Event::Detached { .. }
        | Event::Ended { .. }
        | Event::Closed { .. } => Ok(()),
    }
}

fn opening() -> Vec<u8> {
    let init = Init {
        mechanism: Symbol::from_static("ANONYMOUS"),
        ..Init::default()
    };
    let mut out = Protocol::Sasl.header().to_vec();
    Sasl::Init(init).write_frame(&mut out);
    out.extend_from_slice(&Protocol::Amqp.header());
    let open = Performative::Open(Box::new(Open {
        container_id: "c".into(),
        max_frame_size: 512,
        ..Open::default()
    }));
    open.write_frame(0, &mut out);
    let begin = Performative::Begin(Box::new(Begin {
        incoming_window: 5,
        outgoing_window: 5,
        ..Begin::default()
    }));
    begin.write_frame(1, &mut out);
    out
}

fn attach(handle: u32, role: Role, target: Destination) -> Performative {
    let source = Source {
        address: Some("q1".into()),
        ..Source::default()
    };
    Performative::Attach(Box::new(Attach {
        source: Some(source),
        target: Some(target),
        ..Attach::new(format!("link-{handle}").into(), handle, role)
    }))
}

/// One delivery of two parts, the second of which repeats nothing.
fn transfers(handle: u32, out: &mut Vec<u8>) {
    let first = Transfer {
        handle,
        delivery_id: Some(0),
        delivery_tag: Some(Bytes::from_static(b"tag")),
        more: true,
        ..Transfer::default()
    };
    let last = Transfer {
        handle,
        ..Transfer::default()
    };
    for transfer in [first, last] {
        Performative::Transfer(transfer).write_frame(1, out);
    }
}

/// A sender, a receiver and a coordinator's client, each to its end.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let flow = |incoming_window, drain| {
        Performative::Flow(Box::new(Flow {
            next_incoming_id: Some(0),
            incoming_window,
            handle: Some(1),
            delivery_count: Some(0),
            link_credit: Some(3),
            drain,
            echo: true,
            ..Flow::default()
        }))
    };
    let disposition = Performative::Disposition(Disposition {
        role: Role::Receiver,
        first: 0,
        last: Some(2),
        settled: false,
        state: Some(DeliveryState::Outcome(Outcome::Accepted)),
        batchable: false,
    });
    let detach = |handle| {
        Performative::Detach(Detach {
            handle,
            closed: true,
            error: None,
        })
    };
    let node = || Destination::Target(Target::default());
    let coordinator = Destination::Coordinator(Coordinator::default());
    let mut sender = opening();
    attach(1, Role::Sender, node()).write_frame(1, &mut sender);
    transfers(1, &mut sender);
    detach(1).write_frame(1, &mut sender);
    let mut receiver = opening();
    for said in [
        attach(1, Role::Receiver, node()),
        flow(5, false),
        disposition,
        flow(9, true),
        detach(1),
        Performative::End(End::default()),
        Performative::Close(Close::default()),
    ] {
        said.write_frame(1, &mut receiver);
    }
    let mut controller = opening();
    attach(2, Role::Sender, coordinator).write_frame(1, &mut controller);
    transfers(2, &mut controller);
    vec![sender, receiver, controller]
}

/// Gives each frame a size that the bytes have.
pub(super) fn repair(input: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(head) = input.get(at..at + PROTOCOL_HEADER_BYTES) {
        if head.starts_with(b"AMQP") {
            at += PROTOCOL_HEADER_BYTES;
            continue;
        }
        let claimed = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let size = claimed.clamp(PROTOCOL_HEADER_BYTES, input.len() - at);
        input[at..at + 4].copy_from_slice(&(size as u32).to_be_bytes());
        input[at + 4] = 2;
        at += size;
    }
    input.truncate(at);
}
