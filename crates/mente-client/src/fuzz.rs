//! What a source says, for the fuzzers: whatever it is, it is taken or refused.

use crate::replica::fuzzed;

/// Lines of snapshots and pages, and positions of headers.
pub fn source_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"snapshot":{"topic":"t","topic_id":"a3f","next":{"0":17,"1":4}}}"#,
        r#"{"partition":0,"offset":5,"key":"apple","event":{"specversion":"1.0","id":"1","data":{"a":[1,null]}}}"#,
        r#"{"partition":0,"offset":5,"key":"apple","event":{"id":"1","data_base64":"AA=="}}"#,
        r#"{"end":{"items":1,"start":{"0":0,"1":2}}}"#,
        r#"{"error":{"code":"TooLarge","message":"too much"}}"#,
        "0:17,1:4",
        "17",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

pub fn source(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        fuzzed(text);
    }
}
