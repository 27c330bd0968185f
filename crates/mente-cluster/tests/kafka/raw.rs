//! Bare requests, for what an engine would never do: to write in the name of another, and
//! what only Kafka's own clients do: transactions.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    EndTxnRequest, EndTxnResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse, ProducerId,
    RequestHeader, ResponseHeader, TransactionalId,
};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, StrBytes, encode_request_header_into_buffer,
};
use mente_engine::{Batch, LogId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

pub(crate) const ACCEPTED: i16 = 0;
pub(crate) const INVALID_PRODUCER_EPOCH: i16 = 47;
const CONCURRENT_TRANSACTIONS: i16 = 51;
/// A coordinator that is loading, not there, or elsewhere.
const COORDINATOR_ABSENT: std::ops::RangeInclusive<i16> = 14..=16;

/// Who wrote a batch: producer id, epoch, first sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) sequence: i32,
}

pub(crate) fn producer(batch: &Batch) -> Producer {
    let mut fields = &batch.as_bytes()[43..57];
    Producer {
        id: fields.get_i64(),
        epoch: fields.get_i16(),
        sequence: fields.get_i32(),
    }
}

/// Sends one batch on a connection of its own; the broker's error code.
pub(crate) async fn produce(address: &str, log: LogId, batch: &Batch) -> i16 {
    Client::connect(address)
        .await
        .produce(log, batch, None)
        .await
}

pub(crate) struct Client {
    socket: TcpStream,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> Self {
        Self {
            socket: TcpStream::connect(address)
                .await
                .expect("the broker listens"),
        }
    }

    pub(crate) async fn produce(
        &mut self,
        log: LogId,
        batch: &Batch,
        transaction: Option<&str>,
    ) -> i16 {
        let data = PartitionProduceData::default()
            .with_index(log.index.cast_signed())
            .with_records(Some(batch.as_bytes().clone()));
        let data = TopicProduceData::default()
            .with_topic_id(Uuid::from_u128(log.set.0))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(transaction.map(transactional_id))
            .with_acks(-1)
            .with_timeout_ms(5_000)
            .with_topic_data(vec![data]);
        // 13: topics by id.
        let answer: ProduceResponse = self.ask(0, 13, &request).await;
        answer.responses[0].partition_responses[0].error_code
    }

    /// A producer that may begin transactions.
    pub(crate) async fn transactional(&mut self, name: &str) -> Producer {
        loop {
            let request = FindCoordinatorRequest::default()
                .with_key_type(1)
                .with_coordinator_keys(vec![StrBytes::from_string(name.to_owned())]);
            let found: FindCoordinatorResponse = self.ask(10, 4, &request).await;
            let Coordinator { error_code, .. } = found.coordinators[0];
            let request = InitProducerIdRequest::default()
                .with_transactional_id(Some(transactional_id(name)))
                .with_transaction_timeout_ms(10_000)
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1);
            let answer: InitProducerIdResponse = self.ask(22, 5, &request).await;
            match (error_code, answer.error_code) {
                (0, 0) => {
                    let (id, epoch) = (answer.producer_id.0, answer.producer_epoch);
                    return Producer {
                        id,
                        epoch,
                        sequence: 0,
                    };
                }
                (_, CONCURRENT_TRANSACTIONS) => {}
                (found, given)
                    if COORDINATOR_ABSENT.contains(&found)
                        || COORDINATOR_ABSENT.contains(&given) => {}
                codes => panic!("no producer: {codes:?}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Ends the transaction; who writes the next one.
    pub(crate) async fn end(&mut self, name: &str, of: Producer, commit: bool) -> Producer {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(name))
            .with_producer_id(ProducerId(of.id))
            .with_producer_epoch(of.epoch)
            .with_committed(commit);
        // 5: every end raises the epoch.
        let answer: EndTxnResponse = self.ask(26, 5, &request).await;
        assert_eq!(answer.error_code, 0, "the transaction ends");
        Producer {
            id: answer.producer_id.0,
            epoch: answer.producer_epoch,
            sequence: 0,
        }
    }

    async fn ask<Answer: Decodable + HeaderVersion>(
        &mut self,
        key: i16,
        version: i16,
        request: &impl Encodable,
    ) -> Answer {
        let header = RequestHeader::default()
            .with_request_api_key(key)
            .with_request_api_version(version);
        let mut frame = BytesMut::new();
        encode_request_header_into_buffer(&mut frame, &header).expect("a header");
        request.encode(&mut frame, version).expect("a request");
        let mut sized = BytesMut::new();
        sized.put_u32(frame.len() as u32);
        sized.extend_from_slice(&frame);
        self.socket.write_all(&sized).await.expect("sent");
        let length = self.socket.read_u32().await.expect("an answer");
        let mut answer = vec![0; length as usize];
        self.socket
            .read_exact(&mut answer)
            .await
            .expect("an answer");
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, Answer::header_version(version)).expect("a header");
        Answer::decode(&mut answer, version).expect("an answer")
    }
}

/// The batch as part of a transaction: bit 4 of the attributes, under the checksum.
pub(crate) fn transactional(batch: &Batch, by: Producer) -> Batch {
    let mut bytes = BytesMut::from(&batch.as_bytes()[..]);
    bytes[22] |= 1 << 4;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let batch = Batch::parse(bytes.freeze()).expect("a batch");
    batch.with_producer(by.id, by.epoch, by.sequence)
}

fn transactional_id(name: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(name.to_owned()))
}
