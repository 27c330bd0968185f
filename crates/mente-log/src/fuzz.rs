//! Ways in for the fuzzers: bytes of every structure on the disk.

use bytes::Bytes;
use mente_engine::conformance::batch;
use mente_engine::{BatchBuilder, Offset, SetId, SetName, Term, Timestamp};

use crate::catalogue::{self, Head, Record};
use crate::commit::{BLOCK, Decoded, FIXED_BYTES, Header, Staged};
use crate::file_header::FileHeader;
use crate::pack_file::PackHeader;
use crate::run::{Entry, Position};
use crate::walk::Walk;

const SALT: u64 = 77;
const PLACE: Position = Position { file: 3, at: 8192 };

pub fn commit_seeds() -> Vec<Vec<u8>> {
    let staged = |set, base, values: &[&str]| Staged {
        log: SetId(set).log(1),
        is_term: set == 9,
        base: Offset(base),
        batch: batch(values),
    };
    let mut header = Header {
        salt: SALT,
        position: PLACE,
        sequence: 12,
        durable_upto: Position { file: 2, at: 4096 },
        catalogue_end: Offset(5),
        body_bytes: 0,
        body_crc: 0,
        entries: Vec::new(),
    };
    let many = [
        staged(4, 100, &["a", "b"]),
        staged(4, 102, &["d"]),
        staged(9, 0, &["c"]),
    ];
    vec![
        header.encode(&many).to_vec(),
        header.encode(&many[..1]).to_vec(),
        header.encode(&[]).to_vec(),
    ]
}

/// The number of entries, the salt, the place and the checksum of the header.
pub fn repair_commit(input: &mut [u8]) {
    let Some(claimed) = input.get(4..8) else {
        return;
    };
    let claimed = u32::from_be_bytes(claimed.try_into().expect("four")) as usize;
    if !(FIXED_BYTES..=input.len()).contains(&claimed) {
        return;
    }
    input[12..16].copy_from_slice(&[0, 2, 0, 0]);
    input[16..24].copy_from_slice(&SALT.to_be_bytes());
    input[24..32].copy_from_slice(&PLACE.to_u64().to_be_bytes());
    let crc = crc32c::crc32c(&input[12..claimed]);
    input[8..12].copy_from_slice(&crc.to_be_bytes());
}

pub fn commit(input: &[u8]) {
    let anywhere = Header::decode_anywhere(input);
    let Decoded::Commit(header) = Header::decode(input, PLACE, SALT) else {
        return;
    };
    assert_eq!(
        anywhere.as_ref(),
        Some(&header),
        "the same, wherever it says it is"
    );
    let _ = header.end();
    for (_, run) in header.placed() {
        let from = (run.position.at - PLACE.at) as usize;
        let Some(bytes) = input.get(from..from + run.bytes as usize) else {
            continue;
        };
        let _ = run.end();
        for piece in Walk::new(&run, Bytes::copy_from_slice(bytes)).flatten() {
            let _ = piece.verified().map(|batch| batch.last_offset());
        }
    }
    let mut out = vec![0; header.header_bytes()];
    header.encode_header(&mut out);
    assert_eq!(
        Header::decode(&out, PLACE, SALT),
        Decoded::Commit(header),
        "a header changes"
    );
}

pub fn file_header_seeds() -> Vec<Vec<u8>> {
    let header = FileHeader {
        number: 7,
        file_bytes: 64 << 20,
        salt: SALT,
    };
    vec![header.encode().to_vec()]
}

/// The checksums of both copies of a header, a WAL file's or a pack's.
pub fn repair_header(input: &mut Vec<u8>) {
    input.resize(BLOCK, 0);
    for at in [0, 2048] {
        let crc = crc32c::crc32c(&input[at + 12..at + 64]);
        input[at + 8..at + 12].copy_from_slice(&crc.to_be_bytes());
    }
}

pub fn file_header(input: &[u8]) {
    let Some(block) = input.first_chunk() else {
        return;
    };
    if let Ok(header) = FileHeader::decode(block) {
        assert_eq!(FileHeader::decode(&header.encode()), Ok(header));
    }
}

/// A header block and a directory behind it.
pub fn pack_seeds() -> Vec<Vec<u8>> {
    let entry = |set, base, bytes| Entry {
        log: SetId(set).log(1),
        is_term: false,
        base: Offset(base),
        span: 3,
        bytes,
        max_timestamp: Timestamp(base as i64),
    };
    let entries = [entry(1, 10, 100), entry(1, 13, 50), entry(2, 0, 4000)];
    let directory: Vec<u8> = entries.iter().flat_map(Entry::encode).collect();
    let header = PackHeader::new(7, 4096 + 4150, &directory);
    vec![[&header.encode()[..], &directory].concat()]
}

/// The directory's checksum in the header, then the header's own.
pub fn repair_pack(input: &mut Vec<u8>) {
    let directory = input.split_off(input.len().min(BLOCK));
    input.resize(BLOCK, 0);
    let runs = (directory.len() / crate::run::ENTRY_BYTES) as u32;
    for at in [0, 2048] {
        input[at + 20..at + 24].copy_from_slice(&runs.to_be_bytes());
        input[at + 32..at + 36].copy_from_slice(&crc32c::crc32c(&directory).to_be_bytes());
    }
    repair_header(input);
    input.extend_from_slice(&directory);
}

pub fn pack(input: &[u8]) {
    let Some((block, directory)) = input.split_first_chunk() else {
        return;
    };
    let Ok(header) = PackHeader::decode(block) else {
        return;
    };
    assert_eq!(PackHeader::decode(&header.encode()), Ok(header));
    let _ = (header.file_bytes(), header.directory_bytes());
    for (_, run) in header.decode_directory(directory).into_iter().flatten() {
        let _ = run.end();
    }
}

fn values(records: &[Record]) -> Vec<Vec<u8>> {
    let records = catalogue::batch(records);
    let values = records.records().filter_map(|record| record.ok()?.1.value);
    values.map(|value| value.to_vec()).collect()
}

pub fn catalogue_seeds() -> Vec<Vec<u8>> {
    let id = SetId(3);
    let head = Head {
        start: Offset(2),
        end: Offset(9),
        term: Term(4),
        ..Head::default()
    };
    values(&[
        Record::Start {
            next_set: 3,
            next_file: 12,
        },
        Record::Pack {
            number: 11,
            crc: 99,
        },
        Record::Set {
            id,
            name: SetName::new("default/a").expect("a name"),
            config: mente_engine::LogConfig::default(),
            logs: 2,
        },
        Record::Heads {
            id,
            heads: vec![(1, head)],
        },
        Record::Logs { id, logs: 3 },
        Record::Trim {
            log: id.log(1),
            start: Offset(5),
        },
        Record::Damaged {
            log: id.log(0),
            at: Offset(6),
        },
        Record::Deleted { id },
    ])
}

pub fn catalogue(input: &[u8]) {
    let mut builder = BatchBuilder::default();
    builder.push(&mente_engine::Record {
        value: Some(Bytes::copy_from_slice(input)),
        ..mente_engine::Record::default()
    });
    if let Some(records) = catalogue::records(&builder.finish()) {
        let again = catalogue::records(&catalogue::batch(&records));
        assert_eq!(again, Some(records), "a record changes");
    }
}
