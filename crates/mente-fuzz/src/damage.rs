//! Damage: a seed, and a few changes of the kinds that hurt decoders.

use fastrand::Rng;

/// An input grows no longer than this.
const INPUT_BYTES: usize = 64 << 10;
/// Numbers at the edges of lengths, counts and times.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    7,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

#[derive(Debug)]
pub(crate) struct Damage {
    rng: Rng,
    words: &'static [&'static str],
}

impl Damage {
    pub(crate) fn new(seed: u64, words: &'static [&'static str]) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            words,
        }
    }

    pub(crate) fn often(&mut self) -> bool {
        self.rng.u8(..) < 200
    }

    /// One of the pool, changed up to eight times.
    pub(crate) fn of(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.one(pool);
        for _ in 0..self.rng.usize(1..=8) {
            self.change(&mut input, pool);
            input.truncate(INPUT_BYTES);
        }
        input
    }

    fn one(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        self.rng.choice(pool).cloned().unwrap_or_default()
    }

    fn change(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let at = self.rng.usize(..=input.len());
        let some = self.rng.usize(..=(input.len() - at).min(64));
        match self.rng.u8(..11) {
            0 => self.flip(input),
            1 => self.flip(input),
            2 => self.edge(input, at),
            3 => self.edge(input, at),
            4 => drop(input.drain(at..at + some)),
            5 => input.truncate(at),
            6 => {
                let piece = input[at..at + some].to_vec();
                let to = self.rng.usize(..=input.len());
                drop(input.splice(to..to, piece));
            }
            7 => {
                // A piece many times over, now and then very many: nesting, and counts that are true.
                let most = if self.rng.u8(..) < 16 { 5_000 } else { 100 };
                let piece = input[at..at + some.min(12)].repeat(self.rng.usize(1..most));
                drop(input.splice(at..at, piece));
            }
            8 => {
                let other = self.one(pool);
                let from = self.rng.usize(..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            9 => {
                let byte = self.rng.u8(..);
                input.insert(at, byte);
            }
            _ => {
                let word = self.rng.choice(self.words).copied().unwrap_or_default();
                drop(input.splice(at..at + some.min(word.len()), word.bytes()));
            }
        }
    }

    fn flip(&mut self, input: &mut [u8]) {
        let bit = self.rng.u8(..8);
        if let Some(byte) = self.rng.choice(input) {
            *byte ^= 1 << bit;
        }
    }

    fn edge(&mut self, input: &mut [u8], at: usize) {
        let number = self.rng.choice(EDGES).unwrap_or_default().to_be_bytes();
        let width = 1 << self.rng.usize(..4);
        for (slot, byte) in input[at..].iter_mut().zip(&number[8 - width..]) {
            *slot = *byte;
        }
    }
}
