//! Ways in for the fuzzers to what only this door reads.

use axum::extract::Query;
use axum::http::Uri;
use bytes::Bytes;
use mente_broker::Start;
use mente_engine::Offset;
use serde_json::Value;

use super::position::{From, event_id, next_text};
use super::{body, grid, past, read, store, streams};

pub fn position(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(from) = From::parse(text) {
        let next: Vec<_> = (0..4)
            .filter_map(|partition| match from.of(partition) {
                Start::At(offset) => Some((partition, offset)),
                _ => None,
            })
            .collect();
        if next.len() > 1 {
            let again = From::parse(&next_text(&next)).ok();
            for (partition, offset) in next {
                assert_eq!(
                    again.as_ref().map(|from| from.of(partition)),
                    Some(Start::At(offset))
                );
            }
        }
    }
    if let Ok(from) = From::after(text) {
        let next: Vec<_> = (0..4)
            .filter_map(|partition| match from.of(partition) {
                Start::At(offset) => Some((partition, offset)),
                _ => None,
            })
            .collect();
        if let Some((partition, offset)) = next.iter().find(|(_, offset)| offset.0 > 0) {
            let id = event_id(*partition, Offset(offset.0 - 1), &next);
            let again = From::after(&id).expect("an id of ours is read");
            for (partition, offset) in next {
                assert_eq!(again.of(partition), Start::At(offset), "{id}");
            }
        }
    }
}

pub fn query(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(uri) = format!("/x?{text}").parse::<Uri>() else {
        return;
    };
    let _ = Query::<read::Parameters>::try_from_uri(&uri);
    let _ = Query::<read::DeadLetterParameters>::try_from_uri(&uri);
    let _ = Query::<grid::Parameters>::try_from_uri(&uri);
    let _ = Query::<streams::Append>::try_from_uri(&uri);
    let _ = Query::<streams::Begun>::try_from_uri(&uri);
    let _ = Query::<store::OfStream>::try_from_uri(&uri);
    let _ = Query::<store::OfStore>::try_from_uri(&uri);
    let _ = Query::<past::When>::try_from_uri(&uri);
    let _ = Query::<past::Before>::try_from_uri(&uri);
    let _ = Query::<past::Of>::try_from_uri(&uri);
}

pub(crate) fn json(input: &[u8]) -> Option<Value> {
    body::json(&Bytes::copy_from_slice(input)).ok()
}
