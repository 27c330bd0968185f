//! Bytes to values.
//!
//! Nothing is allocated for what is only claimed: a size ends within the bytes that are there, a
//! count is no larger than the bytes that its elements take at least. Elements that take none
//! (an array of nulls, §1.6.24) have an allowance of their own.

use std::ops::Range;

use bytes::Bytes;
use mente_engine::{Timestamp, limits};

use super::code;
use super::error::{Malformed, condition};
use super::value::{Array, Described, Kind, Map, Symbol, Text, Uuid, Value};

/// Most elements of no bytes in the arrays of one value. No SDK sends one such array.
const EMPTY_ELEMENTS: usize = 256;

/// The one value that these bytes are. Binaries and texts are slices of them.
///
/// Refused as `amqp:resource-limit-exceeded`: deeper than [`limits::NESTING_DEPTH`], where a
/// list, a map, an array and a descriptor are each a level, or more values than
/// [`limits::AMQP_ELEMENTS`], or more than the bytes could be where lists in lists claim the
/// same ones. What is no value is `amqp:decode-error`.
pub fn decode(bytes: &Bytes) -> Result<Value, Malformed> {
    let mut reader = Reader::new(bytes);
    let value = reader.value()?;
    if !reader.is_empty() {
        return Err(reader.malformed("bytes behind the value"));
    }
    Ok(value)
}

/// Reads values one behind the other, whole or past them.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
    /// Where the innermost open list, map or array ends.
    end: usize,
    depth: usize,
    /// How many values may still be made, and how many of them in arrays without bytes. What a
    /// list claims is taken from it at once: lists in lists could claim the same bytes.
    elements_left: usize,
    empty_left: usize,
}

/// Where a list, map or array lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    end: usize,
    /// Of whatever it is in, to go back to.
    outer_end: usize,
    pub(super) count: usize,
}

/// What the elements of an array have in common.
#[derive(Clone, Copy, Debug)]
struct Elements {
    code: u8,
    kind: Kind,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a Bytes) -> Self {
        Self {
            bytes,
            at: 0,
            end: bytes.len(),
            depth: 0,
            elements_left: limits::AMQP_ELEMENTS.min(bytes.len() + EMPTY_ELEMENTS),
            empty_left: EMPTY_ELEMENTS,
        }
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.at == self.end
    }

    pub(super) const fn malformed(&self, what: &'static str) -> Malformed {
        Malformed::new(condition::DECODE_ERROR, what, self.at)
    }

    const fn limit(&self, what: &'static str) -> Malformed {
        Malformed::new(condition::RESOURCE_LIMIT_EXCEEDED, what, self.at)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let open = self.bytes.get(self.at..self.end).unwrap_or_default();
        let Some((taken, _)) = open.split_first_chunk() else {
            return Err(self.malformed("the value ends before its size"));
        };
        self.at += N;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        self.take().map(|[byte]| byte)
    }

    pub(super) fn peek(&self) -> Option<u8> {
        let open = self.bytes.get(self.at..self.end)?;
        open.first().copied()
    }

    /// A size or a count of 1 or of 4 bytes.
    fn length(&mut self, is_wide: bool) -> Result<usize, Malformed> {
        if is_wide {
            self.take().map(|bytes| u32::from_be_bytes(bytes) as usize)
        } else {
            self.byte().map(usize::from)
        }
    }

    /// Goes past bytes that have their size before them, and gives where they lie.
    fn sized(&mut self, is_wide: bool) -> Result<Range<usize>, Malformed> {
        let size = self.length(is_wide)?;
        if size > self.end - self.at {
            return Err(self.malformed("a size beyond the bytes that are there"));
        }
        let from = self.at;
        self.at += size;
        Ok(from..self.at)
    }

    fn slice(&mut self, is_wide: bool) -> Result<Bytes, Malformed> {
        let at = self.sized(is_wide)?;
        Ok(self.bytes.slice(at))
    }

    /// The next value as a number, if it is of a type that numbers of the standard have as a rule; else nothing is
    /// taken, and [`Self::primitive`] has it.
    pub(super) fn unsigned(&mut self) -> Option<u64> {
        let (number, bytes) = match *self.bytes.get(self.at..self.end)? {
            [code::UINT_0 | code::ULONG_0, ..] => (0, 1),
            [code::UINT_SMALL | code::ULONG_SMALL | code::UBYTE, byte, ..] => (byte.into(), 2),
            [code::UINT, a, b, c, d, ..] => (u32::from_be_bytes([a, b, c, d]).into(), 5),
            _ => return None,
        };
        self.at += bytes;
        Some(number)
    }

    fn enter(&mut self) -> Result<(), Malformed> {
        if self.depth == limits::NESTING_DEPTH {
            return Err(self.limit("values nested deeper than is decoded"));
        }
        self.depth += 1;
        Ok(())
    }

    const fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Size and count of a list, map or array; inside it from then on.
    fn open(&mut self, is_wide: bool) -> Result<Extent, Malformed> {
        self.enter()?;
        let size = self.length(is_wide)?;
        if size > self.end - self.at {
            return Err(self.malformed("a size beyond the bytes that are there"));
        }
        let outer_end = self.end;
        self.end = self.at + size;
        let count = self.length(is_wide)?;
        Ok(Extent {
            end: self.end,
            outer_end,
            count,
        })
    }

    /// The list that comes next, as a composite's fields are one (§1.4).
    pub(super) fn open_list(&mut self) -> Result<Extent, Malformed> {
        let extent = match self.byte()? {
            code::LIST_0 => {
                self.enter()?;
                let outer_end = std::mem::replace(&mut self.end, self.at);
                return Ok(Extent {
                    end: self.at,
                    outer_end,
                    count: 0,
                });
            }
            code::LIST_8 => self.open(false)?,
            code::LIST_32 => self.open(true)?,
            _ => return Err(self.malformed("fields that are not a list")),
        };
        self.check_count(extent.count)?;
        Ok(extent)
    }

    /// Each element of a list or map is a byte at least.
    fn check_count(&self, count: usize) -> Result<(), Malformed> {
        if count > self.end - self.at {
            return Err(self.malformed("a count beyond the bytes that are there"));
        }
        Ok(())
    }

    pub(super) fn close(&mut self, extent: Extent) -> Result<(), Malformed> {
        if self.at != extent.end {
            return Err(self.malformed("the size is not that of the elements"));
        }
        self.end = extent.outer_end;
        self.leave();
        Ok(())
    }

    const fn charge(&mut self, count: usize) -> Result<(), Malformed> {
        match self.elements_left.checked_sub(count) {
            Some(left) => self.elements_left = left,
            None => return Err(self.limit("more elements than are decoded")),
        }
        Ok(())
    }

    /// The next value.
    pub(super) fn value(&mut self) -> Result<Value, Malformed> {
        self.charge(1)?;
        self.charged()
    }

    fn charged(&mut self) -> Result<Value, Malformed> {
        let code = self.byte()?;
        self.value_of(code)
    }

    fn value_of(&mut self, code: u8) -> Result<Value, Malformed> {
        match code {
            code::DESCRIBED => {
                self.enter()?;
                let descriptor = self.value()?;
                let value = self.value()?;
                self.leave();
                let described = Described { descriptor, value };
                Ok(Value::Described(Box::new(described)))
            }
            code::LIST_0 => {
                self.enter()?;
                self.leave();
                Ok(Value::List(Vec::new()))
            }
            code::LIST_8 | code::LIST_32 => {
                let extent = self.open(code == code::LIST_32)?;
                self.check_count(extent.count)?;
                self.charge(extent.count)?;
                let mut list = Vec::with_capacity(extent.count);
                for _ in 0..extent.count {
                    list.push(self.charged()?);
                }
                self.close(extent)?;
                Ok(Value::List(list))
            }
            code::MAP_8 | code::MAP_32 => self.map_of(code).map(Value::Map),
            code::ARRAY_8 | code::ARRAY_32 => self.array_of(code).map(Value::from),
            _ => self.scalar(code),
        }
    }

    pub(super) fn map_of(&mut self, code: u8) -> Result<Map, Malformed> {
        let extent = self.open_map(code)?;
        self.charge(extent.count)?;
        let mut entries = Vec::with_capacity(extent.count / 2);
        for _ in 0..extent.count / 2 {
            let key = self.charged()?;
            entries.push((key, self.charged()?));
        }
        self.close(extent)?;
        Ok(Map(entries))
    }

    fn open_map(&mut self, code: u8) -> Result<Extent, Malformed> {
        let extent = self.open(code == code::MAP_32)?;
        self.check_count(extent.count)?;
        if !extent.count.is_multiple_of(2) {
            return Err(self.malformed("a map with a key that has no value"));
        }
        Ok(extent)
    }

    pub(super) fn array_of(&mut self, code: u8) -> Result<Array, Malformed> {
        let extent = self.open(code == code::ARRAY_32)?;
        let mut descriptors = Vec::new();
        while self.peek() == Some(code::DESCRIBED) {
            self.at += 1;
            self.enter()?;
            descriptors.push(self.value()?);
        }
        let of = self.elements(extent.count)?;
        self.charge(extent.count)?;
        let mut elements = Vec::with_capacity(extent.count);
        for _ in 0..extent.count {
            elements.push(self.value_of(of.code)?);
        }
        self.depth -= descriptors.len();
        self.close(extent)?;
        let array = Array::described(descriptors, of.kind, elements);
        array.ok_or_else(|| self.malformed("an array of several types"))
    }

    /// The constructor of the elements of an array, and whether so many of them can be there.
    fn elements(&mut self, count: usize) -> Result<Elements, Malformed> {
        let code = self.byte()?;
        let Some(kind) = kind_of(code) else {
            return Err(self.malformed("a format code that no type has"));
        };
        let bytes_min = code::bytes_min(code);
        if bytes_min == 0 {
            match self.empty_left.checked_sub(count) {
                Some(left) => self.empty_left = left,
                None => return Err(self.limit("more elements without bytes than are decoded")),
            }
        } else if count > (self.end - self.at) / bytes_min {
            return Err(self.malformed("a count beyond the bytes that are there"));
        }
        Ok(Elements { code, kind })
    }

    fn scalar(&mut self, code: u8) -> Result<Value, Malformed> {
        Ok(match code {
            code::NULL => Value::Null,
            code::TRUE => Value::Boolean(true),
            code::FALSE => Value::Boolean(false),
            code::BOOLEAN => match self.byte()? {
                0 => Value::Boolean(false),
                1 => Value::Boolean(true),
                _ => return Err(self.malformed("a boolean that is neither 0 nor 1")),
            },
            code::UBYTE => Value::Ubyte(self.byte()?),
            code::USHORT => Value::Ushort(u16::from_be_bytes(self.take()?)),
            code::UINT_0 => Value::Uint(0),
            code::UINT_SMALL => Value::Uint(self.byte()?.into()),
            code::UINT => Value::Uint(u32::from_be_bytes(self.take()?)),
            code::ULONG_0 => Value::Ulong(0),
            code::ULONG_SMALL => Value::Ulong(self.byte()?.into()),
            code::ULONG => Value::Ulong(u64::from_be_bytes(self.take()?)),
            code::BYTE => Value::Byte(i8::from_be_bytes(self.take()?)),
            code::SHORT => Value::Short(i16::from_be_bytes(self.take()?)),
            code::INT_SMALL => Value::Int(i8::from_be_bytes(self.take()?).into()),
            code::INT => Value::Int(i32::from_be_bytes(self.take()?)),
            code::LONG_SMALL => Value::Long(i8::from_be_bytes(self.take()?).into()),
            code::LONG => Value::Long(i64::from_be_bytes(self.take()?)),
            code::FLOAT => Value::Float(u32::from_be_bytes(self.take()?)),
            code::DOUBLE => Value::Double(u64::from_be_bytes(self.take()?)),
            code::DECIMAL_32 => Value::Decimal32(self.take()?),
            code::DECIMAL_64 => Value::Decimal64(self.take()?),
            code::DECIMAL_128 => Value::Decimal128(self.take()?),
            code::CHAR => {
                let unit = u32::from_be_bytes(self.take()?);
                let char = char::from_u32(unit);
                Value::Char(char.ok_or_else(|| self.malformed("a char that Unicode has not"))?)
            }
            code::TIMESTAMP => Value::Timestamp(Timestamp(i64::from_be_bytes(self.take()?))),
            code::UUID => Value::Uuid(Uuid(self.take()?)),
            code::BINARY_8 | code::BINARY_32 => Value::Binary(self.slice(code == code::BINARY_32)?),
            code::STRING_8 | code::STRING_32 => {
                let text = Text::from_utf8(self.slice(code == code::STRING_32)?);
                Value::String(text.ok_or_else(|| self.malformed("a string that is not UTF-8"))?)
            }
            code::SYMBOL_8 | code::SYMBOL_32 => {
                let symbol = Symbol::from_ascii(self.slice(code == code::SYMBOL_32)?);
                Value::Symbol(symbol.ok_or_else(|| self.malformed("a symbol that is not ASCII"))?)
            }
            _ => return Err(self.malformed("a format code that no type has")),
        })
    }

    /// The next value if it is neither described nor made of others.
    pub(super) fn primitive(&mut self) -> Result<Value, Malformed> {
        match self.byte()? {
            code::DESCRIBED | code::LIST_0 | code::LIST_8.. => {
                Err(self.malformed("a value made of others where a single one belongs"))
            }
            code => self.scalar(code),
        }
    }

    /// Goes past the next value, which [`Self::value`] would take but for how many elements it
    /// has: nothing is made of them.
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        let code = self.byte()?;
        self.skip_of(code)
    }

    fn skip_of(&mut self, code: u8) -> Result<(), Malformed> {
        match code {
            code::DESCRIBED => {
                self.enter()?;
                self.skip()?;
                self.skip()?;
                self.leave();
            }
            code::LIST_0 => {
                self.enter()?;
                self.leave();
            }
            code::LIST_8 | code::LIST_32 => {
                let extent = self.open(code == code::LIST_32)?;
                self.check_count(extent.count)?;
                for _ in 0..extent.count {
                    self.skip()?;
                }
                self.close(extent)?;
            }
            code::MAP_8 | code::MAP_32 => {
                let extent = self.open_map(code)?;
                for _ in 0..extent.count {
                    self.skip()?;
                }
                self.close(extent)?;
            }
            code::ARRAY_8 | code::ARRAY_32 => {
                let extent = self.open(code == code::ARRAY_32)?;
                let mut descriptors = 0;
                while self.peek() == Some(code::DESCRIBED) {
                    self.at += 1;
                    self.enter()?;
                    self.skip()?;
                    descriptors += 1;
                }
                let of = self.elements(extent.count)?;
                for _ in 0..extent.count {
                    self.skip_of(of.code)?;
                }
                self.depth -= descriptors;
                self.close(extent)?;
            }
            code::BINARY_8 | code::BINARY_32 => {
                self.sized(code == code::BINARY_32)?;
            }
            _ => drop(self.scalar(code)?),
        }
        Ok(())
    }
}

/// The type of a format code that is no descriptor's.
const fn kind_of(code: u8) -> Option<Kind> {
    Some(match code {
        code::NULL => Kind::Null,
        code::TRUE | code::FALSE | code::BOOLEAN => Kind::Boolean,
        code::UBYTE => Kind::Ubyte,
        code::USHORT => Kind::Ushort,
        code::UINT_0 | code::UINT_SMALL | code::UINT => Kind::Uint,
        code::ULONG_0 | code::ULONG_SMALL | code::ULONG => Kind::Ulong,
        code::BYTE => Kind::Byte,
        code::SHORT => Kind::Short,
        code::INT_SMALL | code::INT => Kind::Int,
        code::LONG_SMALL | code::LONG => Kind::Long,
        code::FLOAT => Kind::Float,
        code::DOUBLE => Kind::Double,
        code::DECIMAL_32 => Kind::Decimal32,
        code::DECIMAL_64 => Kind::Decimal64,
        code::DECIMAL_128 => Kind::Decimal128,
        code::CHAR => Kind::Char,
        code::TIMESTAMP => Kind::Timestamp,
        code::UUID => Kind::Uuid,
        code::BINARY_8 | code::BINARY_32 => Kind::Binary,
        code::STRING_8 | code::STRING_32 => Kind::String,
        code::SYMBOL_8 | code::SYMBOL_32 => Kind::Symbol,
        code::LIST_0 | code::LIST_8 | code::LIST_32 => Kind::List,
        code::MAP_8 | code::MAP_32 => Kind::Map,
        code::ARRAY_8 | code::ARRAY_32 => Kind::Array,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
