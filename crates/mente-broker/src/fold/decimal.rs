//! Decimal numbers written as text, for `add`: exact, or not at all.
//!
//! A decimal is what JSON writes as a number without an exponent: `-12.50`, `0`, `1000000.001`.
//! What 128 bits hold is the bound, 38 significant digits; nothing is ever rounded. A sum has as
//! many places behind the point as the more exact of both.

use std::fmt;

use serde_json::Number;

/// Most digits of a number, those in front of the point and those behind it together.
const DIGITS: usize = 38;

/// `coefficient` with the point `places` digits from its right end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    coefficient: i128,
    places: u32,
}

impl Decimal {
    /// Nothing for a text that is no such number, or one of too many digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = match unsigned.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (unsigned, ""),
        };
        let is_padded = whole.len() > 1 && whole.starts_with('0');
        let mut digits = whole.bytes().chain(fraction.bytes());
        if whole.is_empty() || is_padded || !digits.all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        // The zero of 0.5 is no digit of the number.
        let whole = if whole == "0" { "" } else { whole };
        let count = whole.len() + fraction.len();
        if count > DIGITS {
            return None;
        }
        let magnitude: i128 = match count {
            0 => 0,
            _ => format!("{whole}{fraction}").parse().ok()?,
        };
        let is_negative = unsigned.len() < text.len();
        Some(Self {
            coefficient: if is_negative { -magnitude } else { magnitude },
            places: u32::try_from(fraction.len()).ok()?,
        })
    }

    /// A whole number. One with a fraction is a binary number and only near the decimal that was
    /// meant, so it is none.
    pub(super) fn whole(number: &Number) -> Option<Self> {
        let coefficient = match (number.as_i64(), number.as_u64()) {
            (Some(signed), _) => signed.into(),
            (None, Some(unsigned)) => unsigned.into(),
            (None, None) => return None,
        };
        Some(Self {
            coefficient,
            places: 0,
        })
    }

    /// Nothing where the sum has too many digits.
    pub(super) fn checked_add(self, other: Self) -> Option<Self> {
        let places = self.places.max(other.places);
        let scaled = |number: Self| {
            let power = 10_i128.checked_pow(places - number.places)?;
            number.coefficient.checked_mul(power)
        };
        let coefficient = scaled(self)?.checked_add(scaled(other)?)?;
        let most = 10_u128.checked_pow(u32::try_from(DIGITS).ok()?)?;
        (coefficient.unsigned_abs() < most).then_some(Self {
            coefficient,
            places,
        })
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.coefficient < 0 { "-" } else { "" };
        let places = self.places as usize;
        let digits = format!("{:0>1$}", self.coefficient.unsigned_abs(), places + 1);
        let (whole, fraction) = digits.split_at(digits.len() - places);
        let point = if places > 0 { "." } else { "" };
        write!(f, "{sign}{whole}{point}{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        let sum = Decimal::parse(a)?.checked_add(Decimal::parse(b)?)?;
        Some(sum.to_string())
    }

    #[test]
    fn sums_are_exact_and_keep_their_places() {
        for (a, b, expect) in [
            ("1.0", "2.00", "3.00"),
            ("0.1", "0.2", "0.3"),
            ("-12.50", "12.5", "0.00"),
            ("-0.00", "0", "0.00"),
            ("-0.5", "0.25", "-0.25"),
            ("99", "1", "100"),
            (
                "0.00000000000000000000000000000000000001",
                "0",
                "0.00000000000000000000000000000000000001",
            ),
            (
                "12345678901234567890123456.78",
                "0.01",
                "12345678901234567890123456.79",
            ),
        ] {
            assert_eq!(sum(a, b).as_deref(), Some(expect), "{a} + {b}");
            assert_eq!(sum(b, a).as_deref(), Some(expect), "{b} + {a}");
        }
    }

    #[test]
    fn what_is_no_decimal_or_too_long_is_none() {
        let nines = "9".repeat(DIGITS);
        assert_eq!(Decimal::parse(&nines).unwrap().to_string(), nines);
        assert_eq!(sum(&nines, "1"), None);
        assert_eq!(sum(&nines, "0.1"), None);
        assert_eq!(Decimal::parse(&format!("{nines}9")), None);
        for text in [
            "", "-", ".", "1.", ".5", "+1", "1e3", "01", "00.5", "1,000", " 1", "--1", "1.2.3",
            "٣", "1.-2",
        ] {
            assert_eq!(Decimal::parse(text), None, "{text:?}");
        }
    }
}
