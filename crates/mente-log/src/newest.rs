//! A search that begins with the newest: most of what is read was written just now, and what is asked there is in the
//! processor's caches, where the middle of a long log is not.

use std::collections::VecDeque;

/// What [`VecDeque::partition_point`] gives, in steps from the end that double.
pub(crate) fn partition_point<T>(items: &VecDeque<T>, is_before: impl Fn(&T) -> bool) -> usize {
    let (mut upto, mut step) = (items.len(), 1);
    while upto > 0 {
        let at = upto.saturating_sub(step);
        if is_before(&items[at]) {
            break;
        }
        (upto, step) = (at, step * 2);
    }
    // The one at `from` is before, if there is one, and the one at `upto` is not.
    let mut from = upto.saturating_sub(step);
    while from < upto {
        let middle = from.midpoint(upto);
        match is_before(&items[middle]) {
            true => from = middle + 1,
            false => upto = middle,
        }
    }
    from
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_what_a_search_from_the_middle_finds() {
        for count in 0..70 {
            let items: VecDeque<usize> = (0..count).collect();
            for point in 0..=count + 1 {
                let is_before = |item: &usize| *item < point;
                let expected = items.partition_point(is_before);
                assert_eq!(
                    partition_point(&items, is_before),
                    expected,
                    "{point} of {count}"
                );
            }
        }
    }
}
