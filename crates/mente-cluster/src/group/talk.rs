//! What is said to the coordinator of the group, and what its answers mean.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use mente_engine::Error;
use tokio::time::timeout;

use crate::api::Request;
use crate::cluster::{self, Again, Cluster, Kept};
use crate::connection::{Connection, Trouble};
use crate::limits;

const PROTOCOL_TYPE: StrBytes = StrBytes::from_static_str("mente");
const PROTOCOL: StrBytes = StrBytes::from_static_str("mente-1");

/// Why the group did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is about to share anew: join again, and keep what you have.
    Rebalance,
    /// It goes on without us.
    Unknown,
    /// It is in another generation than we are.
    Generation,
    /// Another process joined as our instance.
    Fenced,
    /// Join again under this member id.
    IdRequired(StrBytes),
    /// Nobody answered, or one that is not the coordinator: it may go better soon.
    Elsewhere(String),
    /// It has not answered for so long that it may have dropped us.
    Silent,
    /// It does not go, and will not soon.
    Refused(String),
}

/// Who we are to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) instance: StrBytes,
    /// Empty before it gave us one.
    pub(super) member: StrBytes,
    /// Negative before the first.
    pub(super) generation: i32,
}

#[derive(Debug)]
pub(super) struct Talk {
    cluster: Arc<Cluster>,
    group: GroupId,
    coordinator: Mutex<Option<String>>,
    /// Which broker is asked next for the coordinator: not the same one that keeps silent.
    turn: AtomicUsize,
    /// Its own, with the address of each: they end with the membership.
    lines: Mutex<HashMap<Line, (String, Arc<Connection>)>>,
}

/// What a connection is for. Kafka works on one request of a connection at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Line {
    /// And for what else must not wait behind a join.
    Beats,
    /// These are answered only when all members have joined.
    Joins,
}

impl Talk {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        let group = format!("{}mente-nodes", cluster.prefix);
        Self {
            cluster,
            group: GroupId(StrBytes::from_string(group)),
            coordinator: Mutex::default(),
            turn: AtomicUsize::new(0),
            lines: Mutex::default(),
        }
    }

    pub(super) async fn join(
        &self,
        place: &Place,
        card: Bytes,
    ) -> Result<JoinGroupResponse, Fault> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(PROTOCOL)
            .with_metadata(card);
        let request = JoinGroupRequest::default()
            .with_group_id(self.group.clone())
            .with_session_timeout_ms(ms(limits::SESSION))
            .with_rebalance_timeout_ms(ms(limits::REBALANCE))
            .with_member_id(place.member.clone())
            .with_group_instance_id(Some(place.instance.clone()))
            .with_protocol_type(PROTOCOL_TYPE)
            .with_protocols(vec![protocol]);
        // 5: static members.
        let answer = self
            .ask(Line::Joins, 5..=9, &request, limits::ANSWER)
            .await?;
        if answer.error_code == ResponseError::MemberIdRequired.code() {
            return Err(Fault::IdRequired(answer.member_id));
        }
        self.check(answer.error_code)?;
        Ok(answer)
    }

    /// What the leader gave us. `given` is that of the leader, for each member id.
    pub(super) async fn sync(
        &self,
        place: &Place,
        given: Vec<(StrBytes, Bytes)>,
    ) -> Result<Bytes, Fault> {
        let assignments = given.into_iter().map(|(member, bytes)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(member)
                .with_assignment(bytes)
        });
        let request = SyncGroupRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id(place.generation)
            .with_member_id(place.member.clone())
            .with_group_instance_id(Some(place.instance.clone()))
            .with_protocol_type(Some(PROTOCOL_TYPE))
            .with_protocol_name(Some(PROTOCOL))
            .with_assignments(assignments.collect());
        let answer = self
            .ask(Line::Joins, 3..=5, &request, limits::ANSWER)
            .await?;
        self.check(answer.error_code)?;
        Ok(answer.assignment)
    }

    pub(super) async fn beat(&self, place: &Place) -> Result<(), Fault> {
        let request = HeartbeatRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id(place.generation)
            .with_member_id(place.member.clone())
            .with_group_instance_id(Some(place.instance.clone()));
        let answer = self
            .ask(Line::Beats, 3..=4, &request, limits::GROUP_ANSWER)
            .await?;
        self.check(answer.error_code)
    }

    pub(super) async fn leave(&self, place: &Place) -> Result<(), Fault> {
        let member = MemberIdentity::default()
            .with_member_id(place.member.clone())
            .with_group_instance_id(Some(place.instance.clone()));
        let request = LeaveGroupRequest::default()
            .with_group_id(self.group.clone())
            .with_members(vec![member]);
        let answer = self
            .ask(Line::Beats, 3..=5, &request, limits::GROUP_ANSWER)
            .await?;
        self.check(answer.error_code)
    }

    async fn ask<R: Request>(
        &self,
        line: Line,
        versions: std::ops::RangeInclusive<i16>,
        request: &R,
        within: Duration,
    ) -> Result<R::Answer, Fault> {
        let address = self.coordinator().await?;
        let asked = timeout(limits::GROUP_ANSWER, self.connect(address, line)).await;
        let connection = match asked {
            Ok(Ok(connection)) => connection,
            Ok(Err(trouble)) => return Err(self.lost(trouble)),
            Err(_) => return Err(self.lost(Trouble::NotSent("no connection in time".into()))),
        };
        // A heartbeat that nobody waits for is answered soon and harms nothing. A join would
        // have all that comes behind it on this connection wait.
        let mut open = Open {
            connection,
            kept: line != Line::Joins,
        };
        match timeout(within, open.connection.ask(versions, request)).await {
            Ok(answer) => {
                open.kept = true;
                answer.map_err(|trouble| self.lost(trouble))
            }
            Err(_) => {
                open.kept = false;
                Err(self.lost(Trouble::Lost(format!("none within {within:?}"))))
            }
        }
    }

    async fn connect(&self, address: String, line: Line) -> Result<Arc<Connection>, Trouble> {
        const HELD: &str = "no panic while this is held";
        if let Some((to, open)) = self.lines.lock().expect(HELD).get(&line)
            && *to == address
            && open.is_open()
        {
            return Ok(Arc::clone(open));
        }
        let opened = Connection::open(&address).await?;
        let kept = (address, Arc::clone(&opened));
        self.lines.lock().expect(HELD).insert(line, kept);
        Ok(opened)
    }

    async fn coordinator(&self) -> Result<String, Fault> {
        if let Some(known) = self.known().clone() {
            return Ok(known);
        }
        let brokers = self.cluster.addresses();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let Some(broker) = brokers.get(turn % brokers.len().max(1)) else {
            return Err(Fault::Refused("no broker is named".into()));
        };
        let find = async {
            let connection = self.connect(broker.clone(), Line::Beats).await?;
            let mut open = Open {
                connection,
                kept: false,
            };
            let found = cluster::coordinator(&open.connection, Kept::Group, &self.group.0).await;
            open.kept = true;
            found
        };
        match timeout(limits::GROUP_ANSWER, find).await {
            Ok(Ok(found)) => {
                *self.known() = Some(found.clone());
                Ok(found)
            }
            Ok(Err(again)) => Err(fault(again)),
            Err(_) => Err(Fault::Elsewhere(format!("{broker} does not answer"))),
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<String>> {
        self.coordinator
            .lock()
            .expect("no panic while this is held")
    }

    fn lost(&self, trouble: Trouble) -> Fault {
        *self.known() = None;
        fault(trouble.into())
    }

    fn check(&self, code: i16) -> Result<(), Fault> {
        use ResponseError::{
            FencedInstanceId, IllegalGeneration, RebalanceInProgress, UnknownMemberId,
        };
        let Err(again) = cluster::check(code) else {
            return Ok(());
        };
        Err(match ResponseError::try_from_code(code) {
            Some(RebalanceInProgress) => Fault::Rebalance,
            Some(UnknownMemberId) => Fault::Unknown,
            Some(IllegalGeneration) => Fault::Generation,
            Some(FencedInstanceId) => Fault::Fenced,
            _ => {
                // It may have moved.
                *self.known() = None;
                fault(again)
            }
        })
    }
}

/// Closes the connection unless it may be used again.
struct Open {
    connection: Arc<Connection>,
    kept: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.kept {
            self.connection.close();
        }
    }
}

fn fault(again: Again) -> Fault {
    match again {
        Again::Later(reason) | Again::Never(Error::Busy(reason)) => Fault::Elsewhere(reason),
        Again::Never(error) => Fault::Refused(error.to_string()),
    }
}

fn ms(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}
