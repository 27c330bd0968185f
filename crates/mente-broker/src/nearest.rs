//! The word that somebody probably meant.

/// The nearest of `known` to `word`, if one is near enough to be worth naming.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = word.chars().count() / 3 + 1;
    let measured = known.iter().map(|name| (distance(word, name), *name));
    let (distance, name) = measured.min()?;
    (distance <= near).then_some(name)
}

/// `, did you mean "…"?` or a list of what there is: the end of a refusal.
pub fn suggestion(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(name) => format!(", did you mean {name:?}?"),
        None => format!("; there are {}", known.join(", ")),
    }
}

/// Insertions, deletions and replacements between the two (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (cell, y) in row[1..].iter_mut().zip(&b) {
            let up = *cell;
            left = (corner + usize::from(x != *y)).min(up + 1).min(left + 1);
            corner = up;
            *cell = left;
        }
        row[0] = i + 1;
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let known = ["merge", "set", "append"];
        assert_eq!(nearest("megre", &known), Some("merge"));
        assert_eq!(nearest("sets", &known), Some("set"));
        assert_eq!(nearest("apend", &known), Some("append"));
        assert_eq!(nearest("multiply", &known), None);
        assert_eq!(distance("", "set"), 3);
        assert_eq!(distance("set", ""), 3);
    }
}
