//! Lengths of time as ISO 8601 has them, and as .NET does, whose longest one stands for "without end".

use super::xml::Wrong;

/// .NET's longest time; SDKs that compute in microseconds say a little less.
const UNLIMITED: &str = "P10675199DT2H48M5.4775807S";
const UNLIMITED_MS: u64 = 922_337_203_685_477;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Milliseconds; what is shorter is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    Ms(u64),
    Unlimited,
}

impl Span {
    /// None is without end.
    pub const fn of(ms: Option<u64>) -> Self {
        match ms {
            Some(ms) if ms < UNLIMITED_MS => Self::Ms(ms),
            _ => Self::Unlimited,
        }
    }

    pub const fn ms(self) -> Option<u64> {
        match self {
            Self::Ms(ms) => Some(ms),
            Self::Unlimited => None,
        }
    }

    pub fn parse(text: &str) -> Result<Self, Wrong> {
        read(text).map(|ms| Self::of(Some(ms))).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            Wrong(format!("{shown:?} is no duration; one minute is PT1M"))
        })
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Ms(ms) = *self else {
            return f.write_str(UNLIMITED);
        };
        f.write_str("P")?;
        if ms >= DAY {
            write!(f, "{}D", ms / DAY)?;
        }
        if ms % DAY > 0 || ms == 0 {
            f.write_str("T")?;
        }
        for (unit, name) in [(HOUR, "H"), (MINUTE, "M")] {
            let of = if unit == HOUR { DAY } else { HOUR };
            if ms % of >= unit {
                write!(f, "{}{name}", ms % of / unit)?;
            }
        }
        let (seconds, left) = (ms % MINUTE / SECOND, ms % SECOND);
        match (seconds, left) {
            (0, 0) if ms > 0 => Ok(()),
            (_, 0) => write!(f, "{seconds}S"),
            _ => write!(f, "{seconds}.{left:03}S"),
        }
    }
}

/// Years and months are those of .NET: 365 and 30 days.
fn read(text: &str) -> Option<u64> {
    let body = text.trim().strip_prefix('P')?;
    let (date, time) = body.split_once('T').unwrap_or((body, ""));
    if body.is_empty() || body.ends_with('T') {
        return None;
    }
    let days = [
        ('Y', 365 * DAY),
        ('M', 30 * DAY),
        ('W', 7 * DAY),
        ('D', DAY),
    ];
    let hours = [('H', HOUR), ('M', MINUTE), ('S', SECOND)];
    Some(parts(date, &days)?.saturating_add(parts(time, &hours)?))
}

/// Numbers before their units, each at most once and in this order.
fn parts(mut left: &str, mut units: &[(char, u64)]) -> Option<u64> {
    let mut sum = 0_u64;
    while let Some(end) = left.find(|char: char| char.is_ascii_alphabetic()) {
        let (number, rest) = left.split_at(end);
        let at = units.iter().position(|(name, _)| rest.starts_with(*name))?;
        sum = sum.saturating_add(times(number, units[at].1)?);
        (left, units) = (&rest[1..], &units[at + 1..]);
    }
    left.is_empty().then_some(sum)
}

/// A decimal number of units.
fn times(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    let whole = whole.parse::<u64>().unwrap_or(u64::MAX);
    let mut sum = whole.saturating_mul(unit);
    let mut scale = unit;
    for digit in fraction.bytes() {
        scale /= 10;
        sum = sum.saturating_add(scale * u64::from(digit - b'0'));
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_length_is_read() {
        for (text, ms) in [
            ("PT1M", 60_000),
            ("PT60S", 60_000),
            ("P1D", DAY),
            ("P14DT1H30M0.5S", 14 * DAY + 90 * MINUTE + 500),
            ("PT0S", 0),
            ("P1Y2M", 425 * DAY),
            ("P2W", 14 * DAY),
            (" PT10.123456S ", 10_123),
            ("PT1.5H", 90 * MINUTE),
        ] {
            assert_eq!(Span::parse(text), Ok(Span::Ms(ms)), "{text}");
        }
        for text in [
            UNLIMITED,
            "P10675199DT2H48M5.477581S",
            "P10675199DT2H48M5.477S",
            "P99999999999999999999D",
            "P18446744073709551615Y",
        ] {
            assert_eq!(Span::parse(text), Ok(Span::Unlimited), "{text}");
        }
        for text in [
            "",
            "P",
            "PT",
            "P1DT",
            "T1M",
            "PT1",
            "PT1M1H",
            "PT1S1S",
            "P1H",
            "-PT1S",
            "PT-1S",
            "PTS",
            "PT.S",
            "PT1.S",
            "60",
            "PT\u{e4}1S",
            "P1\u{1f600}D",
        ] {
            assert!(Span::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (ms, text) in [
            (0, "PT0S"),
            (1, "PT0.001S"),
            (60_000, "PT1M"),
            (DAY, "P1D"),
            (DAY + 1, "P1DT0.001S"),
            (10 * DAY + 2 * HOUR + 3 * MINUTE + 4_050, "P10DT2H3M4.050S"),
            (UNLIMITED_MS - 1, "P10675199DT2H48M5.476S"),
            (UNLIMITED_MS, UNLIMITED),
            (u64::MAX, UNLIMITED),
        ] {
            let span = Span::of(Some(ms));
            assert_eq!(span.to_string(), text);
            assert_eq!(Span::parse(text), Ok(span));
        }
        assert_eq!(Span::of(None), Span::Unlimited);
    }
}
