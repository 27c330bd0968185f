//! The one task of a connection: bytes and the clock to the machine, its events to the client's state, and what
//! both have to say to the socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::{FutureExt, StreamExt};
use mente_wire::amqp::machine::{Connection, Limits, Options};
use mente_wire::amqp::value::{Map, Symbol};
use mente_wire::amqp::{Error, condition};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout};

use super::Door;
use super::client::{Client, share};
use super::listen::Socket;

/// Room for a read, and for one behind another that found as much as it had room for.
const READ_BYTES: usize = 16 << 10;
const NEXT_READ_BYTES: usize = 64 << 10;
/// What is kept unread by the machine: a whole frame and what came with it.
const INPUT_BYTES: usize = 128 << 10;
/// Pieces of work that end at one time before the socket is looked at again.
const DONE_AT_ONCE: usize = 256;
/// How long what clients asked for may take when the server stops, before they are told of it.
const QUIET_WAIT: Duration = Duration::from_secs(4);
/// How long TLS or a WebSocket may take to say that it ends.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(1);
/// How long a client may take to read what is left when all is said.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// Largest delivery that is read. Those beyond what their link takes are rejected, which clients know as what it is;
/// beyond this one the link ends.
const DELIVERY_BYTES: usize = 4 << 20;

/// All deliveries of one connection that have begun to come in.
pub(super) const PARTIAL_BYTES: usize = 2 * DELIVERY_BYTES;
type Stream = Box<dyn Socket>;

/// What goes out: written, then flushed.
#[derive(Default)]
struct Output {
    bytes: Bytes,
    is_unflushed: bool,
}

/// Speaks AMQP until either end has enough of it.
pub(super) async fn converse(stream: Stream, head: BytesMut, door: Arc<Door>) {
    let mut client = Client::new(Arc::clone(&door));
    if let Err(error) = exchange(stream, head, &door, &mut client).await {
        tracing::debug!(%error, "an AMQP connection broke");
    }
    client.leave().await;
}

async fn exchange(
    stream: Stream,
    mut input: BytesMut,
    door: &Door,
    client: &mut Client,
) -> io::Result<()> {
    let (mut reader, mut writer): (ReadHalf<Stream>, WriteHalf<Stream>) = tokio::io::split(stream);
    let began = Instant::now();
    let mut machine = Connection::new(options(), Duration::ZERO);
    let mut output = Output::default();
    let mut stopping = Stopping::Not;
    let mut finished: Option<Duration> = None;
    loop {
        let now = began.elapsed();
        while client.may_hear()
            && let Some(event) = machine.receive(&mut input, now)
        {
            client.event(&mut machine, event);
        }
        client.tick(&mut machine);
        client.keep_lane(&mut machine, now);
        if client.call_ahead(&mut machine) {
            if let Some(Some(done)) = client.desk.work.next().now_or_never() {
                client.done(&mut machine, done);
            }
            share();
        }
        client.pump(&mut machine);
        client.keep_downloads(&mut machine, now);
        stopping.go_on(&mut machine, client, now);
        if output.bytes.is_empty() {
            let was_full = !machine.wants_bytes() || !machine.has_room();
            if let Some(bytes) = machine.poll_output(now) {
                output.bytes = bytes;
                if was_full {
                    continue;
                }
            }
        }
        if machine.is_finished() && !output.is_due() {
            // What is below may have a word of its own for the end.
            let _ = timeout(SHUTDOWN_WAIT, writer.shutdown()).await;
            return Ok(());
        }
        if machine.is_finished() && *finished.get_or_insert(now) + LAST_WRITE <= now {
            // Whoever does not read to the end keeps no seat for it.
            return Ok(());
        }
        let listens = client.may_hear();
        machine.listen(listens, now);
        let hears = machine.wants_bytes() && listens && input.len() < INPUT_BYTES;
        let last = finished.map(|at| at + LAST_WRITE);
        let at = machine.deadline().into_iter();
        let at = at.chain(client.deadline(now)).chain(stopping.deadline());
        let at = at.chain(last).chain(client.lane_deadline());
        let at = at.chain(client.download_deadline());
        let at = at.min().map(|at| began + at);
        tokio::select! {
            read = read(&mut reader, &mut input), if hears => {
                if read? == 0 {
                    return Ok(());
                }
            }
            wrote = output.write(&mut writer), if output.is_due() => wrote?,
            Some(done) = client.desk.work.next(), if !client.desk.work.is_empty() => {
                client.done(&mut machine, done);
                for _ in 1..DONE_AT_ONCE {
                    let Some(Some(done)) = client.desk.work.next().now_or_never() else {
                        break;
                    };
                    client.done(&mut machine, done);
                }
                // What it asked for meanwhile is begun before this is written.
                if hears && let Some(read) = read(&mut reader, &mut input).now_or_never() && read? == 0 {
                    return Ok(());
                }
            }
            () = sleep_until(at) => if let Some(event) = machine.tick(began.elapsed()) {
                client.event(&mut machine, event);
            },
            () = door.stopped(), if matches!(stopping, Stopping::Not) => {
                client.stop();
                stopping = Stopping::Quieting { until: began.elapsed() + QUIET_WAIT };
            }
        }
    }
}

/// How far the end of the server is with a connection.
enum Stopping {
    Not,
    /// What the client asked for is being done.
    Quieting {
        until: Duration,
    },
    /// The client has been told.
    Told,
}

impl Stopping {
    fn go_on(&mut self, machine: &mut Connection, client: &mut Client, now: Duration) {
        let Self::Quieting { until } = *self else {
            return;
        };
        if !client.is_quiet() && now < until {
            return;
        }
        let error = Error::new(condition::CONNECTION_FORCED, "the server stops");
        // One that is not open yet ends by itself: nothing is kept of it.
        let _ = machine.close(Some(error));
        client.forget();
        *self = Self::Told;
    }

    fn deadline(&self) -> Option<Duration> {
        match self {
            Self::Quieting { until } => Some(*until),
            Self::Not | Self::Told => None,
        }
    }
}

impl Output {
    const fn is_due(&self) -> bool {
        self.is_unflushed || !self.bytes.is_empty()
    }

    /// Goes one step on; one that is given up in the middle is done again.
    async fn write(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        if self.bytes.is_empty() {
            writer.flush().await?;
            self.is_unflushed = false;
            return Ok(());
        }
        let written = writer.write(&self.bytes).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes.advance(written);
        self.is_unflushed = true;
        Ok(())
    }
}

/// What has come, if that is no more than is kept of it: the more is read at once, the larger are the commits that it
/// comes to.
async fn read(reader: &mut ReadHalf<Stream>, input: &mut BytesMut) -> io::Result<usize> {
    input.reserve(READ_BYTES);
    let first = reader.read_buf(input).await?;
    while first > 0 && input.len() == input.capacity() && input.len() < INPUT_BYTES {
        input.reserve(NEXT_READ_BYTES);
        // The end, and an error, come again.
        match reader.read_buf(input).now_or_never() {
            Some(Ok(read)) if read > 0 => {}
            _ => break,
        }
    }
    Ok(first)
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn options() -> Options {
    let mut properties = Map::default();
    properties.set(Symbol::from_static("product"), "Mente".into());
    let version = env!("CARGO_PKG_VERSION").into();
    properties.set(Symbol::from_static("version"), version);
    Options {
        properties,
        limits: Limits {
            delivery_bytes: DELIVERY_BYTES,
            partial_bytes: PARTIAL_BYTES,
            ..Limits::default()
        },
        ..Options::default()
    }
}
