//! A sealed block: where the events of a stretch of the store lie, by what they are, as records of the
//! index log.
//!
//! ```text
//!  page  page  page  …  footer          each a record; the footer names the pages and their first keys
//! ```
//! A page is groups in the order of their keys: `key u64 · length of the name · name · first revision ·
//! count · position · deltas…`, numbers as LEB128, positions relative to the block. A group is what one key
//! has, the events of one stream for example, and may go on in the next page under the same key. Keys are
//! hashes: a stream's groups have its name beside; who finds something by another key looks at the event
//! before it believes it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use mente_engine::Offset;

use super::bloom::Bloom;
use super::chain::Chain;
use super::metadata::METADATA;
use super::query::Key;

/// Bytes of a page, about: what one look costs.
const PAGE_BYTES: usize = 8 << 10;
/// Since the second one events are found by what caused them and by their ids alone.
const VERSION: u8 = 2;
const WITHOUT_CAUSES: u8 = 1;

/// Positions of one key, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group<'a> {
    pub(super) key: u64,
    /// Of the stream, where the key is a stream's; else empty.
    pub(super) name: &'a [u8],
    /// Of the first of them, where the key is a stream's.
    pub(super) revision: u64,
    pub(super) positions: &'a [u64],
}

/// The same as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: Bytes,
    pub(super) revision: u64,
    pub(super) positions: Vec<u64>,
}

impl<'a> Group<'a> {
    /// Of a key that is no stream's.
    pub(super) fn unnamed(key: u64, positions: &'a [u64]) -> Self {
        Self {
            key,
            name: &[],
            revision: 0,
            positions,
        }
    }
}

/// What is kept of a block in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    version: u8,
    pub(super) first: u64,
    /// Position behind the last one.
    pub(super) end: u64,
    /// Where offsets of the store's log do not follow each other: a position, and its offset.
    runs: Vec<(u64, u64)>,
    /// First key of each page, and where the page lies in the index log.
    pages: Vec<(u64, u64)>,
    bloom: Bloom,
    /// Whether it may hold metadata of any stream.
    pub(super) holds_metadata: bool,
}

/// A block before it is written.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(super) pages: Vec<Bytes>,
    footer: Footer,
    /// Of every event of the store up to its last one.
    pub(super) chain: Chain,
}

impl Draft {
    /// `groups` in the order of their keys; `offsets` of the positions from `first` on.
    pub(super) fn new(first: u64, offsets: &[Offset], groups: &[Group<'_>], chain: Chain) -> Self {
        #[cfg(test)]
        if super::tests::seals_as_before() {
            return Self::without_causes(first, offsets, groups, chain);
        }
        Self::of_version(VERSION, first, offsets, groups, chain)
    }

    /// As the first version wrote it.
    #[cfg(test)]
    fn without_causes(first: u64, offsets: &[Offset], groups: &[Group<'_>], chain: Chain) -> Self {
        let is_known = |group: &&Group<'_>| !Key(group.key).is_of_causes();
        let groups: Vec<_> = groups.iter().filter(is_known).copied().collect();
        Self::of_version(WITHOUT_CAUSES, first, offsets, &groups, chain)
    }

    fn of_version(
        version: u8,
        first: u64,
        offsets: &[Offset],
        groups: &[Group<'_>],
        chain: Chain,
    ) -> Self {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut expected = None;
        for (position, offset) in (first..).zip(offsets) {
            if expected != Some(offset.0) {
                runs.push((position, offset.0));
            }
            expected = Some(offset.0 + 1);
        }
        let mut draft = Self {
            pages: Vec::new(),
            footer: Footer {
                version,
                first,
                end: first + offsets.len() as u64,
                runs,
                pages: Vec::new(),
                bloom: Bloom::of(groups.iter().map(|group| group.key)),
                holds_metadata: groups
                    .iter()
                    .any(|group| group.key == Key::of_type(METADATA).0),
            },
            chain,
        };
        let mut page = BytesMut::new();
        for group in groups {
            let mut revision = group.revision;
            let mut left = group.positions;
            while !left.is_empty() {
                if page.len() >= PAGE_BYTES {
                    draft.pages.push(page.split().freeze());
                }
                if page.is_empty() {
                    draft.footer.pages.push((group.key, 0));
                }
                // A position takes ten bytes at most.
                let room = (PAGE_BYTES.saturating_sub(page.len()) / 10).max(1);
                let (some, rest) = left.split_at(room.min(left.len()));
                write_group(group, revision, first, some, &mut page);
                revision += some.len() as u64;
                left = rest;
            }
        }
        if !page.is_empty() {
            draft.pages.push(page.freeze());
        }
        draft
    }

    /// The footer, once it is known where the pages lie.
    pub(super) fn footer(mut self, offsets: &[Offset]) -> Footer {
        for (page, offset) in self.footer.pages.iter_mut().zip(offsets) {
            page.1 = offset.0;
        }
        self.footer
    }
}

impl Footer {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(self.version);
        put(&mut out, self.first);
        put(&mut out, self.end);
        for list in [&self.runs, &self.pages] {
            put(&mut out, list.len() as u64);
            for (key, value) in list {
                out.put_u64(*key);
                put(&mut out, *value);
            }
        }
        self.bloom.write(&mut out);
        out.freeze()
    }

    pub(super) fn decode(mut bytes: Bytes) -> Option<Self> {
        let version = bytes.try_get_u8().ok()?;
        if !(WITHOUT_CAUSES..=VERSION).contains(&version) {
            return None;
        }
        let (first, end) = (take(&mut bytes)?, take(&mut bytes)?);
        let mut lists = [Vec::new(), Vec::new()];
        for list in &mut lists {
            for _ in 0..take(&mut bytes)? {
                list.push((bytes.try_get_u64().ok()?, take(&mut bytes)?));
            }
        }
        let [runs, pages] = lists;
        if first > end || !runs_reach(&runs, first, end) {
            return None;
        }
        let bloom = Bloom::read(bytes)?;
        Some(Self {
            version,
            first,
            end,
            runs,
            pages,
            holds_metadata: bloom.may_hold(Key::of_type(METADATA).0),
            bloom,
        })
    }

    pub(super) fn may_hold(&self, key: u64) -> bool {
        (!self.knows_causes() && Key(key).is_of_causes()) || self.bloom.may_hold(key)
    }

    /// Whether it finds events by their causes and ids.
    pub(super) fn knows_causes(&self) -> bool {
        self.version > WITHOUT_CAUSES
    }

    /// Where the pages lie that may hold `key`.
    pub(super) fn pages_of(&self, key: u64) -> impl Iterator<Item = Offset> {
        // The page before the first that begins with the key may end with it.
        let begin = self.pages.partition_point(|(first, _)| *first < key);
        let pages = self.pages[begin.saturating_sub(1)..].iter();
        pages
            .take_while(move |(first, _)| *first <= key)
            .map(|(_, offset)| Offset(*offset))
    }

    /// Where an event lies in the store's log.
    pub(super) fn offset(&self, position: u64) -> Option<Offset> {
        if !(self.first..self.end).contains(&position) {
            return None;
        }
        let run = self.runs.partition_point(|(from, _)| *from <= position);
        let (from, offset) = self.runs.get(run.checked_sub(1)?)?;
        Some(Offset(offset + (position - from)))
    }
}

/// Whether every position from `first` to `end` has an offset: runs follow one another, and none of them ends
/// behind the last offset.
fn runs_reach(runs: &[(u64, u64)], first: u64, end: u64) -> bool {
    let ends = runs.iter().skip(1).map(|(next, _)| *next).chain([end]);
    let is_sound = |(run, next): (&(u64, u64), u64)| {
        let (from, offset) = *run;
        from < next && offset.checked_add(next - from).is_some()
    };
    runs.first()
        .map_or(first == end, |(from, _)| *from == first)
        && runs.iter().zip(ends).all(is_sound)
}

/// The groups of `key` in a page of the block that begins with `first`; `None` for bytes that are no page.
pub(super) fn groups_of(mut page: Bytes, first: u64, key: u64) -> Option<Vec<Found>> {
    let mut found = Vec::new();
    while page.has_remaining() {
        let at = page.try_get_u64().ok()?;
        if at > key {
            break;
        }
        let length = usize::try_from(take(&mut page)?).ok()?;
        let name = (length <= page.remaining()).then(|| page.split_to(length))?;
        let (revision, count) = (take(&mut page)?, take(&mut page)?);
        revision.checked_add(count)?;
        let mut position = first;
        let mut positions = Vec::new();
        for _ in 0..count {
            position = position.checked_add(take(&mut page)?)?;
            if at == key {
                positions.push(position);
            }
        }
        if at == key {
            found.push(Found {
                name,
                revision,
                positions,
            });
        }
    }
    Some(found)
}

fn write_group(
    group: &Group<'_>,
    revision: u64,
    first: u64,
    positions: &[u64],
    page: &mut BytesMut,
) {
    page.put_u64(group.key);
    put(page, group.name.len() as u64);
    page.put_slice(group.name);
    put(page, revision);
    put(page, positions.len() as u64);
    let mut last = first;
    for position in positions {
        put(page, position - last);
        last = *position;
    }
}

fn put(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

fn take(bytes: &mut Bytes) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// A footer and a page, as they are written.
#[cfg(feature = "fuzz")]
pub(crate) fn block_seeds() -> Vec<Vec<u8>> {
    let positions = [7, 8, 300];
    let named = Group {
        name: b"order-1",
        ..Group::unnamed(5, &positions)
    };
    let offsets: Vec<Offset> = (7..310).map(Offset).collect();
    let groups = [named, Group::unnamed(9, &positions)];
    let draft = Draft::new(7, &offsets, &groups, Chain::default());
    let page = draft.pages[0].to_vec();
    let footer = draft.footer(&[Offset(3)]).encode();
    vec![footer.to_vec(), page]
}

/// Reads bytes as both.
#[cfg(feature = "fuzz")]
pub(crate) fn read_block(input: &Bytes) {
    if let Some(footer) = Footer::decode(input.clone()) {
        let again = Footer::decode(footer.encode());
        assert_eq!(again.as_ref(), Some(&footer), "a footer changes");
        for key in [0, 5, 9, u64::MAX] {
            let _ = footer.may_hold(key);
            assert!(footer.pages_of(key).count() <= footer.pages.len());
        }
        for position in [footer.first, footer.end.saturating_sub(1), 7, u64::MAX] {
            let is_inside = (footer.first..footer.end).contains(&position);
            assert_eq!(footer.offset(position).is_some(), is_inside);
        }
    }
    for found in groups_of(input.clone(), 7, 5).unwrap_or_default() {
        let revisions = (found.revision..).zip(&found.positions);
        assert_eq!(revisions.count(), found.positions.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::StreamName;

    /// Keys with one position, with many, and two groups of one key.
    fn groups() -> Vec<(u64, Found)> {
        let group = |key, revision, positions: std::ops::Range<u64>, step| {
            let found = Found {
                name: Bytes::from(vec![b'n'; key as usize % 50]),
                revision,
                positions: positions.step_by(step).map(|p| p + 1_000_000).collect(),
            };
            (key, found)
        };
        let mut groups: Vec<_> = (0..3_000).map(|n| group(n * 7, n, n..n + 1, 1)).collect();
        groups.push(group(30_000, 5, 0..50_000, 2));
        groups.push(group(40_000, 0, 10..20, 1));
        groups.push(group(40_000, 3, 11..50_000, 5_000));
        groups.push(group(u64::MAX, 9, 49_999..50_000, 1));
        groups
    }

    fn given((key, found): &(u64, Found)) -> Group<'_> {
        Group {
            key: *key,
            name: &found.name,
            revision: found.revision,
            positions: &found.positions,
        }
    }

    #[test]
    fn what_is_written_is_found() {
        let groups = groups();
        let offsets: Vec<Offset> = (0..50_000)
            .map(|n| Offset(n + n / 10_000 * 3 + 77))
            .collect();
        let given: Vec<_> = groups.iter().map(given).collect();
        let draft = Draft::new(1_000_000, &offsets, &given, Chain::default());
        let pages = draft.pages.clone();
        assert!(pages.len() > 5 && pages.iter().all(|page| page.len() < 2 * PAGE_BYTES));
        let places: Vec<Offset> = (0..pages.len() as u64).map(|n| Offset(500 + n)).collect();
        let footer = draft.footer(&places);
        assert_eq!(Footer::decode(footer.encode()), Some(footer.clone()));
        for (n, offset) in (0..).zip(&offsets) {
            assert_eq!(footer.offset(1_000_000 + n), Some(*offset));
        }
        assert_eq!(
            (footer.offset(999_999), footer.offset(1_050_000)),
            (None, None)
        );
        let find = |key| {
            let found = footer.pages_of(key).flat_map(|offset| {
                let page = pages[offset.0 as usize - 500].clone();
                groups_of(page, 1_000_000, key).unwrap()
            });
            found.collect::<Vec<_>>()
        };
        for key in [0, 7, 2_999 * 7, 30_000, 40_000, u64::MAX] {
            assert!(footer.may_hold(key));
            let positions = |groups: &[Found]| {
                let with_revision = groups
                    .iter()
                    .flat_map(|g| (g.revision..).zip(g.positions.clone()));
                with_revision.collect::<Vec<_>>()
            };
            let of_key = groups
                .iter()
                .filter(|(at, _)| *at == key)
                .map(|(_, found)| found.clone());
            let of_key: Vec<_> = of_key.collect();
            let found = find(key);
            assert!(found.iter().all(|group| group.name == of_key[0].name));
            assert_eq!(positions(&found), positions(&of_key), "{key}");
        }
        assert_eq!(find(8), []);
        assert_eq!(find(50_000), []);
    }

    /// What the first version wrote of three events of a stream, byte for byte.
    #[test]
    fn a_block_of_the_first_version_opens() {
        const PAGE: &str = "236d421f29f3eb440000030001a4026bb475c74bee17e4076f726465722d3104030001a40271aa1278284b412200000100735fa23992b52680000001a502746626cc594e475d00000101";
        const FOOTER: &str = "0107b6020400000000000000070700000000000000646700000000000000c8ce01000000000000012cb50201236d421f29f3eb4403c0040100000020000802008000802000180000000400002400000006a00020010000805044c00200002240020008000100000000000000001000800081000000";
        let bytes = |hex: &str| -> Bytes {
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            (0..hex.len()).step_by(2).map(byte).collect()
        };
        let footer = Footer::decode(bytes(FOOTER)).unwrap();
        assert!(!footer.knows_causes());
        assert_eq!(
            footer.encode(),
            bytes(FOOTER),
            "and it is written as it was"
        );
        assert_eq!((footer.first, footer.end), (7, 310));
        assert_eq!(footer.offset(300), Some(Offset(309)));
        let stream = StreamName::new("order-1").unwrap();
        let found = |key: Key| {
            assert!(footer.may_hold(key.0));
            assert_eq!(footer.pages_of(key.0).collect::<Vec<_>>(), [Offset(3)]);
            groups_of(bytes(PAGE), 7, key.0).unwrap().remove(0)
        };
        let events = found(Key::of_stream(&stream));
        assert_eq!(
            (events.revision, &events.positions[..]),
            (4, &[7, 8, 300][..])
        );
        assert_eq!(found(Key::of_type("order.placed")).positions, [7, 8, 300]);
        let id = Key::of_id(&stream, super::super::record::id_hash("b"));
        assert_eq!(found(id).positions, [8]);
        // Of causes it knows nothing, so it may hold any.
        let draft = Draft::new(7, &[Offset(7)], &[], Chain::default());
        let (newer, cause) = (draft.footer(&[]), Key::of_cause("a"));
        assert!(newer.knows_causes() && !newer.may_hold(cause.0));
        assert!(footer.may_hold(cause.0));
        let mut later = bytes(FOOTER).to_vec();
        later[0] = VERSION + 1;
        assert_eq!(Footer::decode(later.into()), None);
    }

    #[test]
    fn bytes_that_are_no_block_are_told() {
        let offsets = [Offset(1), Offset(2)];
        let groups = [Group {
            key: 1,
            name: b"n",
            revision: 0,
            positions: &[5, 6],
        }];
        let draft = Draft::new(5, &offsets, &groups, Chain::default());
        let page = draft.pages[0].clone();
        let footer = draft.footer(&[Offset(0)]).encode();
        for cut in 0..footer.len() {
            assert_eq!(Footer::decode(footer.slice(..cut)), None, "{cut}");
        }
        let told = |first, end, runs: &[(u64, u64)]| {
            let sound = Footer::decode(footer.clone()).unwrap();
            let runs = runs.to_vec();
            Footer::decode(
                Footer {
                    first,
                    end,
                    runs,
                    ..sound
                }
                .encode(),
            )
            .is_some()
        };
        assert!(told(5, 7, &[(5, 1)]) && told(5, 7, &[(5, u64::MAX - 2)]) && told(5, 5, &[]));
        let of_five = |runs: &[(u64, u64)]| told(5, 7, runs);
        assert!(!told(7, 5, &[(5, 1)]));
        let unsound: [&[(u64, u64)]; 6] = [
            &[],
            &[(6, 1)],
            &[(4, 1)],
            &[(5, 1), (5, 9)],
            &[(5, 1), (7, 9)],
            &[(5, u64::MAX - 1)],
        ];
        assert!(unsound.iter().all(|runs| !of_five(runs)));
        for cut in 1..page.len() {
            assert_eq!(groups_of(page.slice(..cut), 5, 1), None, "{cut}");
        }
    }
}
