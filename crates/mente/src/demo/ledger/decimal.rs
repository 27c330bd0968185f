//! Decimal numbers as accountants write them, with the places they were written with.
//!
//! Arithmetic rounds as beancount's does: to 28 significant digits, half to even (the General
//! Decimal Arithmetic of IBM, of which Python's `decimal` is one). So what is interpolated here is
//! what is interpolated there. Sums of balances do not round at all: [`Decimal::exact_sum`].

use std::cmp::Ordering;
use std::fmt;

use num_bigint::{BigInt, Sign};

/// Significant digits of a result.
const PRECISION: usize = 28;
/// Most digits of a number that is written: as many as the fold's `add` keeps.
pub(super) const DIGITS_MAX: usize = 38;
/// How far the point may be from the digits; far beyond what anybody writes, and small enough that
/// aligning two numbers costs nothing.
const EXPONENT_MAX: i32 = 300;

/// `coefficient * 10^exponent`.
#[derive(Clone, Debug)]
pub(super) struct Decimal {
    coefficient: BigInt,
    exponent: i32,
}

impl Decimal {
    pub(super) fn zero() -> Self {
        Self::new(BigInt::ZERO, 0)
    }

    /// 0.5, the share of the last digit that is tolerated.
    pub(super) fn half() -> Self {
        Self::new(BigInt::from(5), -1)
    }

    fn new(coefficient: BigInt, exponent: i32) -> Self {
        Self {
            coefficient,
            exponent,
        }
    }

    /// 10^exponent.
    pub(super) fn power_of_ten(exponent: i32) -> Self {
        Self::new(BigInt::from(1), exponent)
    }

    /// Digits with at most one point, perhaps a minus; nothing for anything else and for more
    /// digits than are kept.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || digits.len() > DIGITS_MAX {
            return None;
        }
        if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let magnitude = BigInt::parse_bytes(digits.as_bytes(), 10)?;
        let is_negative = unsigned.len() < text.len();
        let coefficient = if is_negative { -magnitude } else { magnitude };
        let exponent = -i32::try_from(fraction.len()).ok()?;
        Some(Self::new(coefficient, exponent))
    }

    pub(super) fn is_zero(&self) -> bool {
        self.coefficient.sign() == Sign::NoSign
    }

    pub(super) fn is_negative(&self) -> bool {
        self.coefficient.sign() == Sign::Minus
    }

    /// Of the last digit.
    pub(super) fn exponent(&self) -> i32 {
        self.exponent
    }

    /// Whether arithmetic may go on with it.
    pub(super) fn is_sane(&self) -> bool {
        self.exponent.abs() <= EXPONENT_MAX
    }

    /// Significant digits; a zero has one.
    pub(super) fn digits(&self) -> usize {
        self.coefficient.magnitude().to_string().len()
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        self.exact_sum(other).rounded()
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        self.plus(&other.opposite())
    }

    pub(super) fn times(&self, other: &Self) -> Self {
        let coefficient = &self.coefficient * &other.coefficient;
        Self::new(coefficient, self.exponent + other.exponent).rounded()
    }

    pub(super) fn negated(&self) -> Self {
        self.opposite().rounded()
    }

    pub(super) fn absolute(&self) -> Self {
        if self.is_negative() {
            self.negated()
        } else {
            self.clone()
        }
    }

    /// Nothing by zero. An exact quotient has the places that it needs, and no fewer than the
    /// dividend has more than the divisor.
    pub(super) fn divided_by(&self, divisor: &Self) -> Option<Self> {
        if divisor.is_zero() {
            return None;
        }
        let ideal = self.exponent - divisor.exponent;
        if self.is_zero() {
            return Some(Self::new(BigInt::ZERO, ideal));
        }
        // One digit more than is kept, so that rounding sees it.
        let shift = (divisor.digits() + PRECISION + 1).saturating_sub(self.digits());
        let shift = i32::try_from(shift).ok()?;
        let dividend = &self.coefficient * power(shift);
        let mut quotient = &dividend / &divisor.coefficient;
        let is_exact = &quotient * &divisor.coefficient == dividend;
        let mut exponent = ideal - shift;
        let ten = BigInt::from(10);
        if is_exact {
            while exponent < ideal && (&quotient % &ten).sign() == Sign::NoSign {
                quotient /= &ten;
                exponent += 1;
            }
        } else if (&quotient % 5_u32).sign() == Sign::NoSign {
            // What was cut off must not look like an exact half.
            let one = if quotient.sign() == Sign::Minus {
                -1
            } else {
                1
            };
            quotient += one;
        }
        Some(Self::new(quotient, exponent).rounded())
    }

    /// The same number with its last digit where that of `quantum` is; nothing if that takes more
    /// digits than a result has.
    pub(super) fn quantized(&self, quantum: &Self) -> Option<Self> {
        let dropped = quantum.exponent - self.exponent;
        let coefficient = if dropped <= 0 {
            &self.coefficient * power(-dropped)
        } else {
            half_even(&self.coefficient, dropped)
        };
        let quantized = Self::new(coefficient, quantum.exponent);
        (quantized.digits() <= PRECISION).then_some(quantized)
    }

    /// Without zeros at the end.
    pub(super) fn normalized(&self) -> Self {
        if self.is_zero() {
            return Self::zero();
        }
        let (mut coefficient, mut exponent) = (self.coefficient.clone(), self.exponent);
        let ten = BigInt::from(10);
        while (&coefficient % &ten).sign() == Sign::NoSign {
            coefficient /= &ten;
            exponent += 1;
        }
        Self::new(coefficient, exponent)
    }

    /// Every digit kept.
    pub(super) fn exact_sum(&self, other: &Self) -> Self {
        let exponent = self.exponent.min(other.exponent);
        let coefficient = self.aligned(exponent) + other.aligned(exponent);
        Self::new(coefficient, exponent)
    }

    /// The other sign, every digit kept.
    pub(super) fn opposite(&self) -> Self {
        Self::new(-&self.coefficient, self.exponent)
    }

    fn aligned(&self, exponent: i32) -> BigInt {
        &self.coefficient * power(self.exponent - exponent)
    }

    fn rounded(self) -> Self {
        let over = self.digits().saturating_sub(PRECISION);
        let Some(over) = i32::try_from(over).ok().filter(|over| *over > 0) else {
            return self;
        };
        let coefficient = half_even(&self.coefficient, over);
        // 99.9 has become 100.
        Self::new(coefficient, self.exponent + over).rounded()
    }
}

fn power(exponent: i32) -> BigInt {
    BigInt::from(10).pow(exponent.unsigned_abs())
}

/// `coefficient / 10^dropped`, rounded half to even.
fn half_even(coefficient: &BigInt, dropped: i32) -> BigInt {
    let unit = power(dropped);
    let magnitude = BigInt::from(coefficient.magnitude().clone());
    let mut quotient = &magnitude / &unit;
    let twice = (&magnitude % &unit) * 2;
    let is_odd = (&quotient % 2_u32).sign() != Sign::NoSign;
    if twice > unit || (twice == unit && is_odd) {
        quotient += 1;
    }
    if coefficient.sign() == Sign::Minus {
        -quotient
    } else {
        quotient
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let exponent = self.exponent.min(other.exponent);
        self.aligned(exponent).cmp(&other.aligned(exponent))
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Decimal {}

/// By value: 1.0 is 1.00.
impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

/// Without an exponent.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.is_negative() { "-" } else { "" };
        let coefficient = self.aligned(self.exponent.min(0));
        let places = usize::try_from(-self.exponent).unwrap_or(0);
        let digits = format!("{:0>1$}", coefficient.magnitude().to_string(), places + 1);
        let (whole, fraction) = digits.split_at(digits.len() - places);
        let point = if places > 0 { "." } else { "" };
        write!(f, "{sign}{whole}{point}{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn arithmetic_rounds_as_beancount_does() {
        let quotient = |a, b| d(a).divided_by(&d(b)).unwrap().to_string();
        assert_eq!(quotient("10", "3"), "3.333333333333333333333333333");
        assert_eq!(quotient("-2", "3"), "-0.6666666666666666666666666667");
        assert_eq!(quotient("1.00", "2"), "0.50");
        assert_eq!(quotient("10", "4"), "2.5");
        assert_eq!(quotient("1000", "10"), "100");
        assert_eq!(quotient("0.00", "7.0"), "0.0");
        assert!(d("1").divided_by(&d("0.00")).is_none());
        assert_eq!(d("1.0").plus(&d("2.00")).to_string(), "3.00");
        assert_eq!(d("12.50").times(&d("2.0")).to_string(), "25.000");
        let third = d("10").divided_by(&d("3")).unwrap();
        assert_eq!(
            d("100").plus(&third).to_string(),
            "103.3333333333333333333333333"
        );
        assert_eq!(
            d("100").exact_sum(&third).to_string(),
            "103.333333333333333333333333333"
        );
        assert_eq!(d("-0.00").negated().to_string(), "0.00");
    }

    #[test]
    fn quantizing_rounds_half_to_even() {
        let to = |number, quantum| d(number).quantized(&d(quantum)).unwrap().to_string();
        assert_eq!(to("2.345", "0.01"), "2.34");
        assert_eq!(to("-2.355", "0.01"), "-2.36");
        assert_eq!(to("2", "0.010"), "2.000");
        assert!(d(&"9".repeat(28)).quantized(&d("0.1")).is_none());
        assert_eq!(d("0.0100").normalized().to_string(), "0.01");
        assert_eq!(d("1200").normalized().to_string(), "1200");
        let nines = d(&"9".repeat(29)).plus(&Decimal::zero());
        assert_eq!(nines.to_string(), format!("1{}", "0".repeat(29)));
    }

    #[test]
    fn equal_numbers_are_equal_whatever_their_places() {
        assert_eq!(d("1.0"), d("1.00"));
        assert!(d("-1") < d("0.5") && d("10") > d("9.99"));
        assert!(Decimal::parse("1e3").is_none() && Decimal::parse("").is_none());
        assert!(Decimal::parse(&"1".repeat(39)).is_none());
        assert_eq!(d("5."), d("5"));
    }
}
