//! Who gets which shard, as the leader of the group decides it: a pure function.
//!
//! Nothing moves that need not, and never in one step: what a node must give up is given to
//! nobody in the same round. The node stops, joins again without it, and only then, nobody
//! owning it, does somebody get it.

use std::collections::BTreeSet;

/// What a node says that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) instance: String,
    /// The generation of the group in which it got that.
    pub(super) generation: i32,
    pub(super) shards: BTreeSet<u32>,
}

/// For each claim, in its order, what it is to have. Depends on nothing but what it is given,
/// and not on the order of the claims.
pub(super) fn assign(shards: u32, claims: &[Claim]) -> Vec<BTreeSet<u32>> {
    let mut given = owned(shards, claims);
    let count = claims.len();
    if count == 0 {
        return given;
    }
    let mut free: BTreeSet<u32> = (0..shards).collect();
    for shard in given.iter().flatten() {
        free.remove(shard);
    }
    // Those that have most get the larger shares, so that less moves.
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|&i| (usize::MAX - given[i].len(), &claims[i].instance));
    let (floor, larger) = (shards as usize / count, shards as usize % count);
    let mut share = vec![floor; count];
    for &i in &order[..larger] {
        share[i] += 1;
    }
    for (given, share) in given.iter_mut().zip(&share) {
        while given.len() > *share {
            // Dropped, not free: its owner has yet to stop.
            given.pop_last();
        }
    }
    for shard in free {
        let poorest = order.iter().copied().filter(|&i| given[i].len() < share[i]);
        if let Some(i) = poorest.min_by_key(|&i| given[i].len()) {
            given[i].insert(shard);
        }
    }
    given
}

/// What each of the claims is worth: each shard has one owner at most.
fn owned(shards: u32, claims: &[Claim]) -> Vec<BTreeSet<u32>> {
    let mut trust: Vec<usize> = (0..claims.len()).collect();
    // The later generation knows better. Within one, two cannot both be right, and which one
    // is wrong does not show: any choice does that all leaders would make.
    trust.sort_by_key(|&i| (std::cmp::Reverse(claims[i].generation), &claims[i].instance));
    let mut taken = BTreeSet::new();
    let mut owned = vec![BTreeSet::new(); claims.len()];
    for i in trust {
        let known = claims[i].shards.range(..shards).copied();
        owned[i] = known.filter(|shard| taken.insert(*shard)).collect();
    }
    owned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(instance: &str, generation: i32, shards: impl IntoIterator<Item = u32>) -> Claim {
        Claim {
            instance: instance.to_owned(),
            generation,
            shards: shards.into_iter().collect(),
        }
    }

    /// A round in which all take what they get; whether anybody had to give something up.
    fn round(shards: u32, claims: &mut [Claim]) -> bool {
        let given = assign(shards, claims);
        safe(claims, &given);
        let mut gave = false;
        for (claim, given) in claims.iter_mut().zip(given) {
            gave |= !claim.shards.is_subset(&given);
            claim.shards = given;
            claim.generation += 1;
        }
        gave
    }

    /// Nobody gets what another one has, and nothing is given twice.
    fn safe(claims: &[Claim], given: &[BTreeSet<u32>]) {
        let mut all = BTreeSet::new();
        for (i, given) in given.iter().enumerate() {
            for shard in given {
                assert!(all.insert(*shard), "{shard} is given twice");
                let other = claims.iter().enumerate();
                let mut other = other.filter(|(j, _)| *j != i);
                let had = other.any(|(_, claim)| claim.shards.contains(shard));
                assert!(!had || claims[i].shards.contains(shard), "{shard} is taken");
            }
        }
    }

    fn balanced(shards: u32, claims: &[Claim]) {
        let sizes: Vec<_> = claims.iter().map(|claim| claim.shards.len()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), shards as usize, "none is left");
        let (least, most) = (sizes.iter().min(), sizes.iter().max());
        assert!(most.unwrap() - least.unwrap() <= 1, "{sizes:?}");
    }

    #[test]
    fn one_gets_all_at_once() {
        let mut claims = [claim("a", -1, [])];
        assert!(!round(64, &mut claims));
        balanced(64, &claims);
        assert!(assign(64, &[]).is_empty());
        assert_eq!(assign(0, &claims), [BTreeSet::new()]);
    }

    #[test]
    fn newcomers_together_share_at_once() {
        let mut claims = ["a", "b", "c"].map(|name| claim(name, -1, []));
        assert!(!round(64, &mut claims));
        balanced(64, &claims);
    }

    #[test]
    fn a_newcomer_gets_its_share_in_the_second_round_and_no_more_moves() {
        let mut claims = [
            claim("a", 3, 0..32),
            claim("b", 3, 32..64),
            claim("c", -1, []),
        ];
        assert!(round(64, &mut claims));
        let sizes: Vec<_> = claims.iter().map(|claim| claim.shards.len()).collect();
        assert_eq!(sizes, [22, 21, 0]);
        let (a, b) = (claims[0].shards.clone(), claims[1].shards.clone());
        assert!(!round(64, &mut claims));
        balanced(64, &claims);
        assert_eq!((&claims[0].shards, &claims[1].shards), (&a, &b));
        let settled = claims.clone().map(|claim| claim.shards);
        assert!(!round(64, &mut claims));
        assert_eq!(claims.map(|claim| claim.shards), settled);
    }

    #[test]
    fn what_a_gone_one_had_is_shared_at_once_and_the_rest_stays() {
        let mut claims = [claim("a", 3, 0..22), claim("b", 3, 22..43)];
        assert!(!round(64, &mut claims));
        balanced(64, &claims);
        assert!((0..22).all(|shard| claims[0].shards.contains(&shard)));
        assert!((22..43).all(|shard| claims[1].shards.contains(&shard)));
    }

    #[test]
    fn more_nodes_than_shards() {
        let mut claims = ["a", "b", "c", "d"].map(|name| claim(name, -1, []));
        claims[3] = claim("d", 1, 0..2);
        round(2, &mut claims);
        assert!(!round(2, &mut claims));
        balanced(2, &claims);
    }

    #[test]
    fn the_later_generation_is_believed_then_the_smaller_instance() {
        let claims = [
            claim("a", 3, [0, 1]),
            claim("b", 4, [1, 2]),
            claim("c", 4, [2, 3]),
        ];
        let sets = [vec![0], vec![1, 2], vec![3]];
        let sets = sets.map(|set| set.into_iter().collect::<BTreeSet<_>>());
        assert_eq!(owned(4, &claims), sets);
    }

    #[test]
    fn shards_that_do_not_exist_are_not_counted() {
        let claims = [claim("a", 9, [u32::MAX, 64, 65]), claim("b", 1, 0..64)];
        let given = assign(64, &claims);
        assert_eq!((given[0].len(), given[1].len()), (0, 32));
        assert!(given[1].iter().all(|shard| *shard < 64));
    }

    #[test]
    fn the_order_of_the_claims_does_not_matter() {
        let mut claims = [
            claim("a", 2, 5..9),
            claim("b", 2, 0..5),
            claim("c", 1, 3..7),
        ];
        let given = assign(12, &claims);
        claims.reverse();
        let mut again = assign(12, &claims);
        again.reverse();
        assert_eq!(given, again);
    }

    /// Nodes come, go and start anew in any order; from anywhere two rounds settle it.
    #[test]
    fn any_history_settles_in_two_rounds() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let shards = random.u32(0..100);
            let mut claims: Vec<Claim> = Vec::new();
            for step in 0..30 {
                match random.u32(0..4) {
                    0 | 1 => claims.push(claim(&format!("{step}"), -1, [])),
                    2 if !claims.is_empty() => drop(claims.remove(random.usize(0..claims.len()))),
                    _ if !claims.is_empty() => {
                        let at = random.usize(0..claims.len());
                        claims[at].shards.clear();
                    }
                    _ => {}
                }
                random.shuffle(&mut claims);
                if claims.is_empty() || random.bool() {
                    continue;
                }
                if round(shards, &mut claims) {
                    assert!(!round(shards, &mut claims), "seed {seed}");
                }
                balanced(shards, &claims);
            }
        }
    }
}
