//! The requests that we make, each with its number and its answer. (The message crate knows
//! this too, but only together with everything a broker needs.)

use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

pub(crate) trait Request: Encodable {
    const KEY: i16;
    type Answer: Decodable + HeaderVersion;
}

macro_rules! requests {
    ($($key:literal $request:ident $answer:ident),+ $(,)?) => {
        $(impl Request for $request {
            const KEY: i16 = $key;
            type Answer = $answer;
        })+
    };
}

requests! {
    0 ProduceRequest ProduceResponse,
    1 FetchRequest FetchResponse,
    2 ListOffsetsRequest ListOffsetsResponse,
    3 MetadataRequest MetadataResponse,
    10 FindCoordinatorRequest FindCoordinatorResponse,
    11 JoinGroupRequest JoinGroupResponse,
    12 HeartbeatRequest HeartbeatResponse,
    13 LeaveGroupRequest LeaveGroupResponse,
    14 SyncGroupRequest SyncGroupResponse,
    18 ApiVersionsRequest ApiVersionsResponse,
    19 CreateTopicsRequest CreateTopicsResponse,
    20 DeleteTopicsRequest DeleteTopicsResponse,
    21 DeleteRecordsRequest DeleteRecordsResponse,
    22 InitProducerIdRequest InitProducerIdResponse,
    32 DescribeConfigsRequest DescribeConfigsResponse,
    35 DescribeLogDirsRequest DescribeLogDirsResponse,
    37 CreatePartitionsRequest CreatePartitionsResponse,
    44 IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse,
    61 DescribeProducersRequest DescribeProducersResponse,
}
