//! Bare requests, for what an engine would never do: to write in the name of another.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, encode_request_header_into_buffer,
};
use mente_engine::{Batch, LogId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

const PRODUCE: i16 = 0;
/// Topics by id.
const VERSION: i16 = 13;

pub(crate) const ACCEPTED: i16 = 0;
pub(crate) const INVALID_PRODUCER_EPOCH: i16 = 47;

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
    let data = PartitionProduceData::default()
        .with_index(log.index.cast_signed())
        .with_records(Some(batch.as_bytes().clone()));
    let data = TopicProduceData::default()
        .with_topic_id(Uuid::from_u128(log.set.0))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(5_000)
        .with_topic_data(vec![data]);
    let header = RequestHeader::default()
        .with_request_api_key(PRODUCE)
        .with_request_api_version(VERSION);
    let mut frame = BytesMut::new();
    encode_request_header_into_buffer(&mut frame, &header).expect("a header");
    request.encode(&mut frame, VERSION).expect("a request");
    let mut socket = TcpStream::connect(address)
        .await
        .expect("the broker listens");
    let mut sized = BytesMut::new();
    sized.put_u32(frame.len() as u32);
    sized.extend_from_slice(&frame);
    socket.write_all(&sized).await.expect("sent");
    let length = socket.read_u32().await.expect("an answer");
    let mut answer = vec![0; length as usize];
    socket.read_exact(&mut answer).await.expect("an answer");
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, ProduceResponse::header_version(VERSION)).expect("header");
    let answer = ProduceResponse::decode(&mut answer, VERSION).expect("an answer");
    answer.responses[0].partition_responses[0].error_code
}
