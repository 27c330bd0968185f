//! What happens to a world: everything in it follows from this value.

use mente_log::Crash;
use serde::{Deserialize, Serialize};

use crate::random::Random;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub seed: u64,
    pub clients: u32,
    /// Calls that clients make in each life.
    pub calls: u32,
    /// How each life but the last ends; the last is looked through, drained and closed.
    pub ends: Vec<End>,
    /// So many bits are turned and blocks misplaced, one after the other, in what is left.
    #[serde(default)]
    pub rots: u32,
    /// Now and then the disk is full for a while, in every life but the last.
    #[serde(default)]
    pub is_scarce: bool,
}

/// Operations of the disk are counted from the opening of a life; one that is never reached is the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum End {
    /// The power goes before operation `at`; `policy` is an index into [`Crash::ALL`].
    Power {
        at: u64,
        policy: usize,
        seed: u64,
    },
    /// The process is killed there: the page cache survives.
    Kill {
        at: u64,
    },
    /// The first sync from there on fails; the process ends by itself, and then the power goes too or not.
    FailedSync {
        at: u64,
        #[serde(default)]
        policy: Option<usize>,
        seed: u64,
    },
    Close,
}

impl Scenario {
    /// The world of a seed: two to four lives, most of which end badly.
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed_0000_0000_0000);
        let clients = 2 + random.below(4) as u32;
        let calls = random.within(20..90) as u32;
        let mut ends = Vec::new();
        for _ in 0..1 + random.below(3) {
            ends.push(End::draw(&mut random, u64::from(calls)));
        }
        // Only in the first life other blocks are known that could show.
        if let (Some(End::Power { policy, .. }), true) = (ends.first_mut(), random.one_in(8)) {
            *policy = Crash::ALL.len() - 1;
        }
        Self {
            seed,
            clients,
            calls,
            ends,
            is_scarce: random.one_in(6),
            rots: if random.one_in(8) { 2 } else { 0 },
        }
    }
}

impl End {
    fn draw(random: &mut Random, calls: u64) -> Self {
        // Often already while it comes up.
        let at = if random.one_in(4) {
            random.below(24)
        } else {
            random.below(calls * 3)
        };
        let seed = random.draw();
        let policy = random.below(Crash::ALL.len() as u64) as usize;
        match random.below(10) {
            0..=5 => Self::Power { at, policy, seed },
            6 | 7 => Self::Kill { at },
            8 => Self::FailedSync {
                at,
                policy: random.one_in(2).then_some(policy),
                seed,
            },
            _ => Self::Close,
        }
    }
}
