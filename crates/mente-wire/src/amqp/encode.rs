//! Values to bytes, in the smallest encoding of each.

use super::code;
use super::value::{Array, Kind, Map, Symbol, Value};

/// Bytes of a constructor, a wide size and a wide count.
const HEAD_BYTES: usize = 9;

/// Appends a value. What [`decode`](super::decode) took comes back from this as an equal value.
pub fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(code::NULL),
        Value::Boolean(flag) => boolean(*flag, out),
        Value::Uint(number) => uint(*number, out),
        Value::Ulong(number) => ulong(*number, out),
        Value::Int(number) => match i8::try_from(*number) {
            Ok(small) => fixed(code::INT_SMALL, &small.to_be_bytes(), out),
            Err(_) => fixed(code::INT, &number.to_be_bytes(), out),
        },
        Value::Long(number) => match i8::try_from(*number) {
            Ok(small) => fixed(code::LONG_SMALL, &small.to_be_bytes(), out),
            Err(_) => fixed(code::LONG, &number.to_be_bytes(), out),
        },
        Value::Binary(bytes) => variable(code::BINARY_8, bytes, out),
        Value::String(text) => variable(code::STRING_8, text.as_bytes(), out),
        Value::Symbol(symbol) => variable(code::SYMBOL_8, symbol.as_bytes(), out),
        Value::List(_) => {
            let open = Open::begin(out);
            let count = contents(value, out);
            open.end_list(count, out);
        }
        Value::Map(entries) => map(entries, out),
        Value::Array(_) => {
            let open = Open::begin(out);
            let count = contents(value, out);
            open.end(code::ARRAY_8, count, out);
        }
        Value::Described(described) => {
            out.push(code::DESCRIBED);
            encode(&described.descriptor, out);
            encode(&described.value, out);
        }
        other => {
            out.push(code_in_array(other.kind(), false));
            bare(other, false, out);
        }
    }
}

pub(super) fn boolean(flag: bool, out: &mut Vec<u8>) {
    out.push(if flag { code::TRUE } else { code::FALSE });
}

pub(super) fn uint(number: u32, out: &mut Vec<u8>) {
    match u8::try_from(number) {
        Ok(0) => out.push(code::UINT_0),
        Ok(small) => fixed(code::UINT_SMALL, &[small], out),
        Err(_) => fixed(code::UINT, &number.to_be_bytes(), out),
    }
}

pub(super) fn ulong(number: u64, out: &mut Vec<u8>) {
    match u8::try_from(number) {
        Ok(0) => out.push(code::ULONG_0),
        Ok(small) => fixed(code::ULONG_SMALL, &[small], out),
        Err(_) => fixed(code::ULONG, &number.to_be_bytes(), out),
    }
}

pub(super) fn map(map: &Map, out: &mut Vec<u8>) {
    let open = Open::begin(out);
    let count = entries(map, out);
    open.end(code::MAP_8, count, out);
}

fn entries(map: &Map, out: &mut Vec<u8>) -> usize {
    for (key, value) in &map.0 {
        encode(key, out);
        encode(value, out);
    }
    map.0.len() * 2
}

/// An array of symbols.
pub(super) fn symbols(symbols: &[Symbol], out: &mut Vec<u8>) {
    let is_wide = symbols.iter().any(|symbol| is_long(symbol.as_bytes()));
    let open = Open::begin(out);
    out.push(code_in_array(Kind::Symbol, is_wide));
    for symbol in symbols {
        sized(symbol.as_bytes(), is_wide, out);
    }
    open.end(code::ARRAY_8, symbols.len(), out);
}

fn fixed(code: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(code);
    out.extend_from_slice(bytes);
}

/// `code` is that of the short form.
pub(super) fn variable(code: u8, bytes: &[u8], out: &mut Vec<u8>) {
    let is_wide = is_long(bytes);
    out.push(if is_wide { wide(code) } else { code });
    sized(bytes, is_wide, out);
}

/// The type and length of what [`variable`] writes, without the bytes themselves.
pub(super) fn length(code: u8, bytes: usize, out: &mut Vec<u8>) {
    match u8::try_from(bytes) {
        Ok(bytes) => out.extend_from_slice(&[code, bytes]),
        Err(_) => {
            out.push(wide(code));
            out.extend_from_slice(&size(bytes).to_be_bytes());
        }
    }
}

/// Whether a size of 1 byte does not do.
const fn is_long(bytes: &[u8]) -> bool {
    bytes.len() > u8::MAX as usize
}

fn sized(bytes: &[u8], is_wide: bool, out: &mut Vec<u8>) {
    if is_wide {
        out.extend_from_slice(&size(bytes.len()).to_be_bytes());
    } else {
        out.push(u8::try_from(bytes.len()).expect("the short form was chosen by the length"));
    }
    out.extend_from_slice(bytes);
}

/// Every code with a size of 1 byte has one with 4 bytes beside it.
const fn wide(code: u8) -> u8 {
    code + 0x10
}

fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a frame is smaller than 4 GiB, and so is what is in it")
}

/// A list, map or array whose size is not known yet.
#[derive(Debug)]
pub(super) struct Open {
    from: usize,
}

impl Open {
    pub(super) fn begin(out: &mut Vec<u8>) -> Self {
        let from = out.len();
        out.extend_from_slice(&[0; HEAD_BYTES]);
        Self { from }
    }

    pub(super) fn end_list(self, count: usize, out: &mut Vec<u8>) {
        if count == 0 {
            out.truncate(self.from);
            out.push(code::LIST_0);
        } else {
            self.end(code::LIST_8, count, out);
        }
    }

    /// `code` is that of the short form, which is taken where it does. Few bytes move for it.
    fn end(self, code: u8, count: usize, out: &mut Vec<u8>) {
        let body = out.len() - self.from - HEAD_BYTES;
        let head = &mut out[self.from..self.from + HEAD_BYTES];
        match (u8::try_from(body + 1), u8::try_from(count)) {
            (Ok(size), Ok(count)) => {
                head[..3].copy_from_slice(&[code, size, count]);
                out.drain(self.from + 3..self.from + HEAD_BYTES);
            }
            _ => {
                head[0] = wide(code);
                head[1..5].copy_from_slice(&size(body + 4).to_be_bytes());
                head[5..].copy_from_slice(&size(count).to_be_bytes());
            }
        }
    }
}

/// What stands behind size and count of a list, map or array; how many values that are.
fn contents(value: &Value, out: &mut Vec<u8>) -> usize {
    match value {
        Value::List(list) => {
            for value in list {
                encode(value, out);
            }
            list.len()
        }
        Value::Map(map) => entries(map, out),
        Value::Array(array) => {
            elements(array, out);
            array.elements().len()
        }
        _ => 0,
    }
}

/// One constructor for all elements, so one width for all.
fn elements(array: &Array, out: &mut Vec<u8>) {
    let is_wide = array.elements().iter().any(|element| match element {
        Value::Binary(bytes) => is_long(bytes),
        Value::String(text) => is_long(text.as_bytes()),
        Value::Symbol(symbol) => is_long(symbol.as_bytes()),
        _ => false,
    });
    for descriptor in array.descriptors() {
        out.push(code::DESCRIBED);
        encode(descriptor, out);
    }
    out.push(code_in_array(array.kind(), is_wide));
    for element in array.elements() {
        bare(element, is_wide, out);
    }
}

/// The code that any value of this type can have. `is_wide` is of binaries and texts; lists,
/// maps and arrays are always wide here.
const fn code_in_array(kind: Kind, is_wide: bool) -> u8 {
    match kind {
        Kind::Null => code::NULL,
        Kind::Boolean => code::BOOLEAN,
        Kind::Ubyte => code::UBYTE,
        Kind::Ushort => code::USHORT,
        Kind::Uint => code::UINT,
        Kind::Ulong => code::ULONG,
        Kind::Byte => code::BYTE,
        Kind::Short => code::SHORT,
        Kind::Int => code::INT,
        Kind::Long => code::LONG,
        Kind::Float => code::FLOAT,
        Kind::Double => code::DOUBLE,
        Kind::Decimal32 => code::DECIMAL_32,
        Kind::Decimal64 => code::DECIMAL_64,
        Kind::Decimal128 => code::DECIMAL_128,
        Kind::Char => code::CHAR,
        Kind::Timestamp => code::TIMESTAMP,
        Kind::Uuid => code::UUID,
        Kind::Binary if is_wide => code::BINARY_32,
        Kind::Binary => code::BINARY_8,
        Kind::String if is_wide => code::STRING_32,
        Kind::String => code::STRING_8,
        Kind::Symbol if is_wide => code::SYMBOL_32,
        Kind::Symbol => code::SYMBOL_8,
        Kind::List => code::LIST_32,
        Kind::Map => code::MAP_32,
        Kind::Array => code::ARRAY_32,
        Kind::Described => code::DESCRIBED,
    }
}

/// A value without its constructor, in the width of [`code_in_array`].
fn bare(value: &Value, is_wide: bool, out: &mut Vec<u8>) {
    match value {
        Value::Null => {}
        Value::Boolean(flag) => out.push((*flag).into()),
        Value::Ubyte(number) => out.push(*number),
        Value::Ushort(number) => out.extend_from_slice(&number.to_be_bytes()),
        Value::Uint(number) => out.extend_from_slice(&number.to_be_bytes()),
        Value::Ulong(number) => out.extend_from_slice(&number.to_be_bytes()),
        Value::Byte(number) => out.extend_from_slice(&number.to_be_bytes()),
        Value::Short(number) => out.extend_from_slice(&number.to_be_bytes()),
        Value::Int(number) => out.extend_from_slice(&number.to_be_bytes()),
        Value::Long(number) => out.extend_from_slice(&number.to_be_bytes()),
        Value::Float(bits) => out.extend_from_slice(&bits.to_be_bytes()),
        Value::Double(bits) => out.extend_from_slice(&bits.to_be_bytes()),
        Value::Decimal32(bytes) => out.extend_from_slice(bytes),
        Value::Decimal64(bytes) => out.extend_from_slice(bytes),
        Value::Decimal128(bytes) => out.extend_from_slice(bytes),
        Value::Char(char) => out.extend_from_slice(&u32::from(*char).to_be_bytes()),
        Value::Timestamp(at) => out.extend_from_slice(&at.0.to_be_bytes()),
        Value::Uuid(uuid) => out.extend_from_slice(&uuid.0),
        Value::Binary(bytes) => sized(bytes, is_wide, out),
        Value::String(text) => sized(text.as_bytes(), is_wide, out),
        Value::Symbol(symbol) => sized(symbol.as_bytes(), is_wide, out),
        Value::List(_) | Value::Map(_) | Value::Array(_) => {
            let from = out.len();
            out.extend_from_slice(&[0; 8]);
            let count = contents(value, out);
            let bytes = out.len() - from - 4;
            out[from..from + 4].copy_from_slice(&size(bytes).to_be_bytes());
            out[from + 4..from + 8].copy_from_slice(&size(count).to_be_bytes());
        }
        Value::Described(_) => unreachable!("an array keeps descriptors apart from its elements"),
    }
}
