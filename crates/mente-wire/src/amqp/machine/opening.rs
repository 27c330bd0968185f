//! From the first byte to the open, time-outs, and the end (§2.2, §2.4, part 5 §5.3).

use std::time::Duration;

use bytes::Bytes;

use super::Connection;
use super::event::{By, Event, Refused};
use super::options::Options;
use super::wire::Fault;
use crate::amqp::error::condition;
use crate::amqp::frame::{self, FRAME_BYTES_MIN, Protocol};
use crate::amqp::performative::{Close, Open, Performative};
use crate::amqp::sasl::{Challenge, Mechanisms, Sasl, SaslCode, SaslOutcome};
use crate::amqp::state::Error;

/// What is read next. Up to the open the whole of it has one time, `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first protocol header.
    Greeting {
        until: Duration,
    },
    /// Which mechanism the client chooses.
    Offered {
        until: Duration,
    },
    /// Nothing: the door has to say who the client is.
    Judged {
        until: Duration,
    },
    /// The client's response to a challenge.
    Challenged {
        until: Duration,
    },
    /// The header of AMQP behind SASL.
    Trusted {
        until: Duration,
    },
    /// The client's open.
    Unopened {
        until: Duration,
    },
    Open,
    /// The client's close: we have sent ours. Behind a frame that could not be read nothing can.
    Closing {
        until: Duration,
        is_legible: bool,
    },
    Finished,
}

impl Phase {
    /// The same, with nothing to be read any more.
    pub(super) const fn illegible(self) -> Self {
        match self {
            Self::Closing { until, .. } => Self::Closing {
                until,
                is_legible: false,
            },
            other => other,
        }
    }
}

impl Connection {
    pub(super) fn greeted(&mut self, protocol: Protocol) -> Result<Option<Event>, Fault> {
        match (self.phase, protocol) {
            (Phase::Greeting { until }, Protocol::Sasl) => {
                self.write_header(Protocol::Sasl);
                let offered = Mechanisms {
                    server_mechanisms: self.options.mechanisms.clone(),
                };
                Sasl::Mechanisms(offered).write_frame(self.wire.out());
                self.phase = Phase::Offered { until };
            }
            (Phase::Greeting { until }, Protocol::Amqp) if self.options.without_sasl => {
                self.write_header(Protocol::Amqp);
                self.phase = Phase::Unopened { until };
            }
            (Phase::Trusted { until }, Protocol::Amqp) => {
                self.write_header(Protocol::Amqp);
                self.phase = Phase::Unopened { until };
            }
            _ => {
                let words = "a protocol that is not spoken at this point";
                return Err(Fault::connection(condition::NOT_ALLOWED, words));
            }
        }
        Ok(None)
    }

    fn write_header(&mut self, protocol: Protocol) {
        self.wire.out().extend_from_slice(&protocol.header());
    }

    pub(super) fn sasl(&mut self, sasl: Sasl) -> Result<Option<Event>, Fault> {
        match (self.phase, sasl) {
            (Phase::Offered { until }, Sasl::Init(init)) => {
                self.phase = Phase::Judged { until };
                if !self.options.mechanisms.contains(&init.mechanism) {
                    let words = "a mechanism that was not offered";
                    return Err(Fault::connection(condition::UNAUTHORIZED_ACCESS, words));
                }
                Ok(Some(Event::Authenticate {
                    mechanism: init.mechanism,
                    initial_response: init.initial_response,
                    hostname: init.hostname,
                }))
            }
            (Phase::Challenged { until }, Sasl::Response(response)) => {
                self.phase = Phase::Judged { until };
                Ok(Some(Event::Response(response.response)))
            }
            _ => {
                let words = "a frame of SASL that is not due";
                Err(Fault::connection(condition::NOT_ALLOWED, words))
            }
        }
    }

    /// Says who the client is: only with [`SaslCode::Ok`] it goes on.
    pub fn sasl_outcome(&mut self, code: SaslCode) -> Result<(), Refused> {
        let Phase::Judged { until } = self.phase else {
            return Err(self.out_of_place());
        };
        self.write_outcome(code);
        self.phase = match code {
            SaslCode::Ok => Phase::Trusted { until },
            _ => Phase::Finished,
        };
        Ok(())
    }

    /// Asks the client on, by a mechanism that does so.
    pub fn sasl_challenge(&mut self, challenge: Bytes) -> Result<(), Refused> {
        let Phase::Judged { until } = self.phase else {
            return Err(self.out_of_place());
        };
        Sasl::Challenge(Challenge { challenge }).write_frame(self.wire.out());
        self.phase = Phase::Challenged { until };
        Ok(())
    }

    fn write_outcome(&mut self, code: SaslCode) {
        let outcome = SaslOutcome {
            code,
            additional_data: None,
        };
        Sasl::Outcome(outcome).write_frame(self.wire.out());
    }

    pub(super) fn opened(&mut self, open: Box<Open>) -> Result<Event, Fault> {
        let peer_bytes = usize::try_from(open.max_frame_size).unwrap_or(usize::MAX);
        let limits = self.options.limits;
        self.peer_channel_max = open.channel_max;
        // As large as the smallest frame can be, if nothing but an error is to be said.
        let most = peer_bytes.min(limits.frame_bytes as usize);
        self.wire.frame_bytes = most.max(FRAME_BYTES_MIN);
        if peer_bytes < FRAME_BYTES_MIN {
            let words = "open max-frame-size: less than the 512 bytes that every peer takes";
            return Err(Fault::connection(condition::INVALID_FIELD, words));
        }
        // Some say 0 where they mean that they wait for ever.
        let idle = open.idle_time_out_ms.filter(|idle| *idle > 0);
        self.peer_idle = idle.map(|idle| Duration::from_millis(idle.into()));
        if self
            .peer_idle
            .is_some_and(|idle| idle < limits.idle_time_out_min)
        {
            self.peer_idle = None;
            let words = "open idle-time-out: shorter than heartbeats are sent here";
            return Err(Fault::connection(condition::NOT_ALLOWED, words));
        }
        self.write_open();
        self.phase = Phase::Open;
        Ok(Event::Opened(open))
    }

    fn write_open(&mut self) {
        let open = open_of(&self.options);
        self.wire.put(0, &Performative::Open(Box::new(open)));
    }

    /// Closes, with an error if the client is to know of one. Its sessions and links are gone.
    pub fn close(&mut self, error: Option<Error>) -> Result<(), Refused> {
        if self.phase != Phase::Open {
            return Err(self.out_of_place());
        }
        self.write_close(error, true);
        Ok(())
    }

    fn write_close(&mut self, error: Option<Error>, is_legible: bool) {
        self.drop_sessions();
        let short = error.as_ref().map(|error| Error {
            condition: error.condition.clone(),
            description: None,
            info: None,
        });
        self.wire.put(0, &Performative::Close(Close { error }));
        if std::mem::take(&mut self.wire.is_overlong) {
            // The condition alone fits into any frame.
            let close = Close { error: short };
            self.wire.put(0, &Performative::Close(close));
        }
        self.phase = Phase::Closing {
            until: self.now + self.options.limits.close_within,
            is_legible,
        };
    }

    fn out_of_place(&self) -> Refused {
        match self.phase {
            Phase::Closing { .. } | Phase::Finished => Refused::Gone,
            _ => Refused::OutOfPlace,
        }
    }

    /// The peer is told in the words of what is spoken at this point.
    pub(super) fn fail_connection(&mut self, error: Error, is_legible: bool) -> Event {
        match self.phase {
            // A header that is not ours is answered with the one that is (§2.2).
            Phase::Greeting { .. } => {
                self.write_header(Protocol::Sasl);
                self.phase = Phase::Finished;
            }
            Phase::Trusted { .. } => {
                self.write_header(Protocol::Amqp);
                self.phase = Phase::Finished;
            }
            Phase::Offered { .. } | Phase::Challenged { .. } | Phase::Judged { .. } => {
                self.write_outcome(SaslCode::Auth);
                self.phase = Phase::Finished;
            }
            Phase::Unopened { .. } => {
                self.write_open();
                self.write_close(Some(error.clone()), is_legible);
            }
            Phase::Open => self.write_close(Some(error.clone()), is_legible),
            Phase::Closing { .. } | Phase::Finished => {}
        }
        Event::Closed {
            by: By::Machine,
            error: Some(error),
        }
    }

    /// Does what is due by the clock: heartbeats, and the end of a connection that is silent,
    /// does not open or does not close.
    pub fn tick(&mut self, now: Duration) -> Option<Event> {
        self.now = self.now.max(now);
        if let Some(event) = self.untold.take() {
            return Some(event);
        }
        if self.heartbeat_at().is_some_and(|at| at <= self.now) {
            // What waits to be written is a sign of us too.
            if self.wire.written_bytes() == 0 {
                frame::write_heartbeat(self.wire.out());
            }
            self.spoke = self.now;
        }
        if self.ends_at().is_none_or(|at| self.now < at) {
            return None;
        }
        if matches!(self.phase, Phase::Closing { .. }) {
            self.phase = Phase::Finished;
            return None;
        }
        let words = match self.phase {
            Phase::Open => "the connection was silent for longer than its time-out",
            _ => "the connection was not opened in time",
        };
        let error = Error::new(condition::RESOURCE_LIMIT_EXCEEDED, words);
        Some(self.fail_connection(error, true))
    }

    /// Whether the door reads at present what the peer says. While it does not nobody is silent for too long.
    pub fn listen(&mut self, listens: bool, now: Duration) {
        self.now = self.now.max(now);
        if listens && self.is_deaf {
            self.heard = self.now;
        }
        self.is_deaf = !listens;
    }

    /// When [`tick`](Self::tick) is due, if no bytes come and none go before.
    pub fn deadline(&self) -> Option<Duration> {
        let at = [self.heartbeat_at(), self.ends_at()];
        at.into_iter().flatten().min()
    }

    /// At half of the time that the peer waits.
    fn heartbeat_at(&self) -> Option<Duration> {
        let is_open = self.phase == Phase::Open;
        let idle = self.peer_idle.filter(|_| is_open)?;
        Some(self.spoke + idle / 2)
    }

    fn ends_at(&self) -> Option<Duration> {
        match self.phase {
            Phase::Greeting { until }
            | Phase::Offered { until }
            | Phase::Judged { until }
            | Phase::Challenged { until }
            | Phase::Trusted { until }
            | Phase::Unopened { until }
            | Phase::Closing { until, .. } => Some(until),
            Phase::Open => {
                let idle = self.options.idle_time_out.filter(|_| !self.is_deaf)?;
                Some(self.heard + idle * 2)
            }
            Phase::Finished => None,
        }
    }
}

fn open_of(options: &Options) -> Open {
    let idle = options.idle_time_out;
    let idle = idle.map(|idle| u32::try_from(idle.as_millis()).unwrap_or(u32::MAX));
    Open {
        container_id: options.container_id.clone(),
        max_frame_size: options.limits.frame_bytes,
        channel_max: options.limits.sessions.saturating_sub(1),
        idle_time_out_ms: idle,
        properties: Some(options.properties.clone()),
        ..Open::default()
    }
}
